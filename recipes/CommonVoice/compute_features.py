#!/usr/bin/env python3
"""Compute the encoder states of a locale, for all runs that will read them.

> python compute_features.py hparams/sumra_whisper_base.yaml --locale hsb \\
      --data_folder DIR

train.py does this on the way. By itself it makes runs that start together wait for
one computation instead of doing it each. Settings are those of train.py: the states
depend on the model, --encoder_context, --adapted_encoder_layers and --precision, and
not on the method. What is there already, is checked and kept; an interrupted
computation goes on.
"""

from pathlib import Path

from command import parse_arguments, run
from speechbrain.utils.distributed import infer_device
from tqdm import tqdm
from train import prepare

from speechbrain_sumra.data import load_datasets
from speechbrain_sumra.training.hparams import load_hparams

SETTINGS = (
    *("data_folder", "locale", "train_hours", "dev_hours", "test_hours"),
    *("max_duration", "max_characters", "durations_file", "skip_prep"),
    *("feature_folder", "whisper_pretrained", "encoder_states"),
)


def compute_features(hparams: dict, device: str, show_progress: bool = True) -> int:
    """Encode every clip of train, dev and test that has no states yet.

    Arguments
    ---------
    hparams : dict
        Of an experiment: ``SETTINGS``, and output_folder, where the manifests go.
    device : str
        Where to compute.
    show_progress : bool
        Whether to show a bar.

    Returns
    -------
    int
        Clips that have states now; fewer than there are if there is no more room.
        The others' are computed in each run.

    Raises
    ------
    ValueError
        If states are not kept on disk.
    """
    whisper, states = hparams["whisper_pretrained"], hparams["encoder_states"]
    if states.mode != "disk":
        raise ValueError(
            f"Expected --feature_cache disk, found {states.mode}: nothing would stay."
        )
    manifests = prepare(hparams)
    splits = {name: path for name, path in manifests.items() if name != "report"}
    datasets, _ = load_datasets(splits, hparams["data_folder"], whisper)
    items = [item for data in datasets.values() for item in data.data.values()]
    whisper.eval().to(device)
    states.plan(whisper, [item["duration"] for item in items])
    bar = tqdm(items, desc="Encoder", unit="clip", disable=not show_progress)
    for number, item in enumerate(bar):
        states([item["wav"]], whisper)
        if states.full:  # of which it has warned
            return number
    return len(items)


def main(argv: list[str]) -> int:
    """Compute the states that a command line asks for; return how many there are."""
    hparams_file, run_opts, overrides = parse_arguments(argv)
    hparams = load_hparams(hparams_file, overrides, only=SETTINGS)
    # For manifests alone.
    hparams["output_folder"] = Path(hparams["feature_folder"]) / hparams["locale"]
    device = run_opts.device or infer_device()
    number = compute_features(hparams, device, not run_opts["noprogressbar"])
    print(f"{hparams['locale']}: encoder states of {number} clips")
    return number


if __name__ == "__main__":
    run(main, __doc__)
