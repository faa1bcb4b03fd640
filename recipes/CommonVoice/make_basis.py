#!/usr/bin/env python3
"""Make SumRA's A from speech of other languages, once for a base model and rank.

> python make_basis.py hparams/sumra_whisper_base.yaml --strategy gradients \\
      --data_folder DIR --locale cs+de+fi+tr --calibration_utterances 560
> python make_basis.py hparams/sumra_whisper_base.yaml --strategy learned \\
      --init_from runs/sumra_train_a_whisper_base/cs+de+fi+tr/.../adapter.safetensors

Strategies of SumRA in the paper look at weights alone, and train.py computes them by
itself. These also look at speech, of languages that Whisper knows and nobody wants to
adapt to, so that A stays the same for all that are adapted to:

inputs     directions in which the inputs of a layer are largest
gradients  directions in which the gradients of its weight are largest
corda      sums of singular vectors of W0 C, C the covariance of the inputs
learned    the A of --init_from, which train.py trained on several languages together
           (hparams/sumra_train_a_*.yaml --locale cs+de+fi+tr --language own)

DIR is as for train.py. A locale of which there is only train.tsv is divided by
split_train.py first. --calibration_utterances of all training clips are drawn at
random. The basis goes to --basis_folder, where train.py --strategy finds it. With
"learned", the adapter itself goes there, too: train.py --init_from learned.
"""

import fnmatch
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import torch
from command import parse_arguments, run
from speechbrain.dataio.dataset import DynamicItemDataset
from speechbrain.utils.distributed import infer_device
from tqdm import tqdm
from train import prepare

from speechbrain_sumra.adapted import (
    adapted_linears,
    basis_description,
    method_from,
)
from speechbrain_sumra.adapter_file import read_adapter, write_adapter
from speechbrain_sumra.basis import stored_basis
from speechbrain_sumra.data import IGNORED, load_datasets
from speechbrain_sumra.features import EncoderStates
from speechbrain_sumra.speech_basis import (
    LEARNED,
    make_speech_basis,
    share_down_projections,
    start_file,
)
from speechbrain_sumra.training.hparams import load_hparams, merge_overrides
from speechbrain_sumra.whisper import Whisper

SETTINGS = (
    *("data_folder", "locale", "train_hours", "dev_hours", "test_hours", "seed"),
    *("max_duration", "max_characters", "durations_file", "skip_prep", "strategy"),
    *("output_folder", "basis_folder", "calibration_utterances", "adapter_class"),
    *("adapter_kwargs", "adapted_linears", "init_from"),
    *("whisper_pretrained", "encoder_states"),
)


def losses(
    whisper: Whisper,
    encoder_states: EncoderStates,
    dataset: DynamicItemDataset,
    number: int,
    seed: int,
) -> Iterator[torch.Tensor]:
    """Loss on one utterance after the other, drawn at random without repetition."""
    device = next(whisper.parameters()).device
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(dataset), generator=generator)[:number].tolist()
    for i in tqdm(order, desc="Calibration", unit="utterance"):
        item = dataset[i]
        states, lengths = encoder_states([item["wav"]], whisper)
        tokens = item["tokens_bos"][None].to(device)
        targets = item["tokens_eos"][None].to(device)
        positions = targets != IGNORED
        _, loss, _ = whisper(
            None,
            tokens,
            encoder_states=states,
            state_lengths=lengths,
            positions=positions,
            targets=targets[positions],
        )
        yield loss


def make_from_speech(hparams: dict, device: str) -> Path:
    """Measure the layers on speech, and store the basis."""
    whisper = hparams["whisper_pretrained"].eval().requires_grad_(False)
    whisper = whisper.to(device)
    method = method_from(hparams["adapter_class"], hparams["adapter_kwargs"])
    names = [name for name, _ in whisper.named_modules()]
    wanted = adapted_linears(whisper, hparams["adapted_linears"])
    layers = sum([fnmatch.filter(names, linears) for linears in wanted], [])
    description = basis_description(whisper.base_fingerprint, method, layers)

    manifests = prepare(hparams)
    report = json.loads(Path(manifests["report"]).read_text(encoding="utf-8"))
    manifests = {"train": manifests["train"]}
    datasets, _ = load_datasets(manifests, hparams["data_folder"], whisper)
    speech = datasets["train"]
    made_from = {
        "locales": hparams["locale"].split("+"),
        "data_hash": report["data_hash"],
        "utterances": min(hparams["calibration_utterances"], len(speech)),
        "seed": hparams["seed"],
    }

    def make():
        states = hparams["encoder_states"]
        states.plan(whisper, [item["duration"] for item in speech.data.values()])
        number, seed = made_from["utterances"], made_from["seed"]
        each = losses(whisper, states, speech, number, seed)
        basis = make_speech_basis(whisper, description, each)
        return replace(basis, made_from=made_from)

    kept, path = stored_basis(hparams["basis_folder"], description, make)
    if kept.made_from != made_from:
        raise ValueError(
            f"{path} is a basis of this strategy and rank already, made from "
            f"{kept.made_from}, not from {made_from}. Remove it, or name another "
            "--basis_folder."
        )
    return path


def make_from_adapter(hparams: dict) -> Path:
    """Store the trained A of an adapter as a basis, and the rest of it beside."""
    if hparams["init_from"] is None:
        raise ValueError(
            "Strategy 'learned' takes A from an adapter that was trained on several "
            "languages together: name its file as --init_from."
        )
    metadata, tensors = read_adapter(hparams["init_from"])
    basis, metadata, tensors = share_down_projections(metadata, tensors)
    folder = hparams["basis_folder"]
    kept, path = stored_basis(folder, basis.description, lambda: basis)
    if kept.fingerprint != basis.fingerprint:
        raise ValueError(
            f"{path} is a basis of another adapter than {hparams['init_from']}. Remove "
            "it, or name another --basis_folder."
        )
    start = start_file(path)
    write_adapter(start, metadata, tensors, "fp32")
    print(f"The adapter on this basis, to start from: {start}")
    return path


def main(argv: list[str]) -> Path:
    """Make a basis from the command line; return its file."""
    hparams_file, run_opts, overrides = parse_arguments(argv)
    overrides = merge_overrides(overrides, language="own")
    hparams = load_hparams(hparams_file, overrides, only=SETTINGS)
    # For manifests alone.
    hparams["output_folder"] = Path(hparams["basis_folder"]) / "speech"
    if hparams["strategy"] == LEARNED:
        path = make_from_adapter(hparams)
    else:
        path = make_from_speech(hparams, run_opts.device or infer_device())
    print(f"The basis: {path}")
    return path


if __name__ == "__main__":
    run(main, __doc__)
