#!/usr/bin/env python3
"""Adapt Whisper to a Common Voice language, with SumRA or another method.

From this folder, or from the top one with the path of this file:

> python train.py hparams/sumra_whisper_small.yaml --locale eo --data_folder DIR
> python train.py hparams/sumra_whisper_base.yaml --locale hsb --rank 2
> python train.py hparams/lora_whisper_small.yaml --locale eo
> torchrun --nproc_per_node=2 train.py hparams/sumra_whisper_small.yaml --locale ia

DIR holds <locale>/ or cv-corpus-*/<locale>/ as Common Voice is downloaded.
hparams/ has one file for each method and model. Every key of it and of the files
it includes can be set as --key value: --rank, --strategy, --language,
--train_hours, --lr, --seed, ... --locale cs+pl+sl adapts to several together.

A run scores the unadapted model on the test set, trains with a validation
every 1/8 epoch, scores the checkpoint of the lowest validation WER (of SumRA the
mean of the best half of them, see --avg_checkpoints), and leaves in its
output_folder: adapter.safetensors (the language), summary.json, wer_test.txt,
test_hypotheses.jsonl, training.png, tensorboard/ and manifests/.
Started again after an interruption, it goes on from the last validation; asked to
stop by SIGTERM or SIGUSR1 while it trains, it saves the step first and exits with
75. docs/reliability.md has more of what can happen.
"""

import json
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import speechbrain as sb
import torch
from command import PRECISIONS, parse_arguments, run
from several_locales import prepare_locales
from speechbrain.utils.distributed import (
    ddp_init_group,
    if_main_process,
    infer_device,
    is_distributed_initialized,
    run_on_main,
)
from speechbrain.utils.logger import get_logger

from speechbrain_sumra.adapted import trained_tensors
from speechbrain_sumra.adapter_file import save_adapter
from speechbrain_sumra.data import EpochPartSampler, load_datasets
from speechbrain_sumra.files import write_text
from speechbrain_sumra.files.folder_lock import holding
from speechbrain_sumra.precision import choose_precision
from speechbrain_sumra.speech_basis import LEARNED, start_file
from speechbrain_sumra.training.averaging import load_average
from speechbrain_sumra.training.brain import ASR
from speechbrain_sumra.training.hparams import (
    HparamsError,
    load_hparams,
    merge_overrides,
)
from speechbrain_sumra.training.memory import limit_kernel_cache
from speechbrain_sumra.training.run_identity import keep_inputs, keep_settings
from speechbrain_sumra.training.summary import versions, write_summary
from speechbrain_sumra.training.warm_start import warm_start

logger = get_logger(__name__)

SCORES = ("loss", "WER", "CER", "errors", "words")
# Of a step of training.
STEPS = (
    "batch_size",
    "grad_accumulation_factor",
    "max_grad_norm",
    "weight_decay",
    "sort_window",
    "validations_per_epoch",
)
# Settings that say where and how fast, not what: a resumed run may change them.
PLACES = (
    "data_folder",
    "runs_folder",
    "output_folder",
    "save_folder",
    "pretrained_folder",
    "basis_folder",
    "durations_file",
    "num_workers",
    "test_batch_size",
    "feature_cache",
    "feature_cache_gb",
    "feature_folder",
    "score_unadapted",
    "skip_prep",
    "ckpt_interval_minutes",
    "train_loggers",
    "train_loader_kwargs",
    "test_loader_kwargs",
)


def prepare(hparams: dict) -> dict:
    """Write the manifests of the run, on one process; return their paths."""
    names = (
        "data_folder",
        "locale",
        "train_hours",
        "dev_hours",
        "test_hours",
        "max_duration",
        "max_characters",
        "durations_file",
        "skip_prep",
    )
    settings = {name: hparams[name] for name in names}
    settings["save_folder"] = Path(hparams["output_folder"]) / "manifests"
    return run_on_main(prepare_locales, kwargs=settings)


def score_unadapted(brain: ASR, test_data) -> dict:
    """Test scores before training; a resumed run reads the earlier ones."""
    path = Path(brain.hparams.output_folder) / "unadapted.json"
    stats = run_on_main(_kept_scores, args=[path])
    if stats is None:
        stats = brain.score(
            test_data, brain.hparams.test_loader_kwargs, suffix="_before"
        )
        run_on_main(write_text, args=(path, json.dumps(stats)))
    return stats


def _kept_scores(path: Path) -> dict | None:
    if not path.exists():
        return None
    try:
        stats = json.loads(path.read_text(encoding="utf-8"))
        return {name: stats[name] for name in SCORES}
    except (ValueError, TypeError, KeyError):
        logger.warning("%s is damaged: the unadapted model is scored again.", path)
        return None


def train_and_score(brain: ASR, datasets: dict) -> dict:
    """Initialise adapters, train, and score the best checkpoint on the test set.

    Without decoding there is nothing to score.
    """
    hparams = brain.hparams
    with hparams.history.phase("initialise"):
        brain.calibrate(
            datasets["train"],
            hparams.calibration_utterances,
            hparams.seed,
            hparams.test_loader_kwargs,
        )
    if hparams.init_from is not None:
        sources = hparams.init_from
        if sources == LEARNED and brain.whisper.basis_file is not None:
            sources = start_file(brain.whisper.basis_file)
        weights = warm_start(brain.whisper, sources)
        logger.info("Starting from %s", weights)
    processes = (
        torch.distributed.get_world_size() if is_distributed_initialized() else 1
    )
    sampler = EpochPartSampler(
        [item["duration"] for item in datasets["train"].data.values()],
        hparams.validations_per_epoch,
        hparams.seed,
        hparams.batch_size * processes,
        hparams.sort_window,
    )
    if processes > 1 and len(sampler) <= processes:
        # SpeechBrain's sampler for several processes cannot take a single item.
        raise ValueError(
            f"Expected more than {processes} training utterances between two "
            f"validations, one for each process and one more; found {len(sampler)}. "
            "Lower --validations_per_epoch."
        )
    brain.train_sampler = sampler
    # So that nothing done before, or again after an interruption, changes what
    # training draws: the loader has a generator of its own for its processes.
    sb.utils.seed.seed_everything(hparams.seed)
    of_training = {"sampler": sampler, "generator": torch.Generator()}
    brain.fit(
        hparams.epoch_counter,
        datasets["train"],
        datasets["dev"],
        train_loader_kwargs={**hparams.train_loader_kwargs, **of_training},
        valid_loader_kwargs=hparams.test_loader_kwargs,
    )
    if not hparams.decode:
        return {}
    with hparams.history.phase("test_after"):
        return brain.score(datasets["test"], hparams.test_loader_kwargs, min_key="WER")


def train_and_average(hparams_file: str, run_opts: dict, overrides: str) -> dict:
    """Train a model for each slice of the singular vectors; score their average."""
    names = ("models_to_average", "output_folder", "rank", "alpha", "decode")
    settings = load_hparams(hparams_file, overrides, only=names)
    if not settings["decode"]:
        raise HparamsError(
            "Expected --decode True where models are averaged: without it there is "
            "nothing of the average to score. Found False."
        )
    folder, number = Path(settings["output_folder"]), settings["models_to_average"]
    members, files = [], []
    for k in range(number):
        of_slice = {"strategy": f"slice:{k}", "output_folder": f"{folder}/slice_{k}"}
        members.append(
            run_experiment(
                hparams_file, run_opts, merge_overrides(overrides, **of_slice)
            )
        )
        files.append(folder / f"slice_{k}" / "adapter.safetensors")

    def average_and_score(brain: ASR, datasets: dict) -> dict:
        load_average(files, brain.whisper)
        for member in members if if_main_process() else ():
            brain.hparams.history.seconds.update(member["seconds"])
        with brain.hparams.history.phase("test_after"):
            return brain.score(datasets["test"], brain.hparams.test_loader_kwargs)

    whole = {
        "strategy": "slice:0",
        "output_folder": str(folder),
        "rank": number * settings["rank"],
        "alpha": number * settings["alpha"],
    }
    return run_experiment(
        hparams_file, run_opts, merge_overrides(overrides, **whole), average_and_score
    )


def main(argv: list[str]) -> dict:
    """Run an experiment from its command line; return its summary."""
    limit_kernel_cache()
    hparams_file, run_opts, overrides = parse_arguments(argv)
    ddp_init_group(run_opts)
    settings = load_hparams(
        hparams_file, overrides, only=[*PRECISIONS, "models_to_average"]
    )
    device = run_opts.device or infer_device()
    chosen = {name: choose_precision(settings[name], device) for name in PRECISIONS}
    overrides = merge_overrides(overrides, **chosen)
    start = train_and_average if settings["models_to_average"] > 1 else run_experiment
    return start(hparams_file, run_opts, overrides)


def run_experiment(
    hparams_file: str,
    run_opts: dict,
    overrides: str,
    train: Callable[[ASR, dict], dict] = train_and_score,
) -> dict:
    """Build what an experiment file describes and, alone in its folder, run it."""
    start = time.monotonic()
    hparams = load_hparams(hparams_file, overrides)
    hparams["history"].seconds["build"] = time.monotonic() - start
    folder = hparams["output_folder"]
    with holding(folder) if if_main_process() else nullcontext():
        sb.create_experiment_directory(folder)
        run_on_main(keep_settings, args=(hparams_file, overrides, folder, PLACES))
        return run_built(hparams, run_opts, train)


def run_built(
    hparams: dict, run_opts: dict, train: Callable[[ASR, dict], dict]
) -> dict:
    """Prepare, score, train, score again and write what a run leaves."""
    history, folder = hparams["history"], Path(hparams["output_folder"])
    with history.phase("prepare"):
        manifests = prepare(hparams)
        report = json.loads(Path(manifests.pop("report")).read_text("utf-8"))
        datasets, dropped = load_datasets(
            manifests, hparams["data_folder"], hparams["whisper_pretrained"]
        )
        augmented = hparams["augmentation"] is not None
        seconds = [
            item["duration"]
            for split, data in datasets.items()
            for item in data.data.values()
            if split != "train" or not augmented
        ]
        hparams["encoder_states"].plan(
            hparams["whisper_pretrained"], seconds, augmented
        )

    brain = ASR(
        modules=hparams["modules"],
        opt_class=hparams["opt_class"],
        hparams=hparams,
        run_opts=run_opts,
        checkpointer=hparams["checkpointer"],
    )
    model = hparams["whisper"]
    inputs = {
        "data_hash": report["data_hash"],
        "base_fingerprint": model.base_fingerprint,
        "basis_fingerprint": model.basis.fingerprint if model.basis else None,
    }
    run_on_main(keep_inputs, args=[folder], kwargs=inputs)
    trains = model.awaits_data or bool(trained_tensors(model))
    before, scores = None, hparams["decode"]
    if scores and (hparams["score_unadapted"] or not trains):
        with history.phase("test_before"):
            before = score_unadapted(brain, datasets["test"])
        logger.info("Unadapted: test WER %.2f %%", before["WER"])
    after = train(brain, datasets) if trains else before

    if not if_main_process():
        return {}
    facts = {
        "experiment": hparams["experiment"],
        "locale": hparams["locale"],
        "base_model": hparams["whisper_hub"],
    }
    adapter_file = folder / "adapter.safetensors" if trains and scores else None
    if adapter_file is not None:
        save_adapter(
            adapter_file,
            model,
            hparams["adapter_storage"],
            **facts,
            seed=hparams["seed"],
            test_wer=after["WER"],
            versions=versions(),
        )
    summary = write_summary(
        folder / "summary.json",
        model,
        adapter_file,
        history,
        before,
        after,
        **facts,
        language=hparams["language"],
        rank=hparams["rank"],
        lr=hparams["lr"],
        **{name: hparams[name] for name in STEPS},
        lora_plus_ratio=hparams["lora_plus_ratio"],
        label_smoothing=hparams["label_smoothing"],
        number_of_epochs=hparams["number_of_epochs"],
        stop_repetition=hparams["stop_repetition"],
        init_from=hparams["init_from"],
        avg_checkpoints=hparams["avg_checkpoints"] if scores else None,
        variant=hparams["variant"],
        train_norms=hparams["train_norms"],
        adapted_encoder_layers=hparams["adapted_encoder_layers"],
        adapted_linears=hparams["adapted_linears"],
        seed=hparams["seed"],
        precision=brain.precision,
        eval_precision=brain.eval_precision,
        train_hours=hparams["train_hours"],
        train_hours_kept=report["splits"]["train"]["hours_kept"],
        left_out_after_preparation=dropped,
        data_hash=report["data_hash"],
        basis_file=model.basis_file.name if model.basis_file else None,
    )
    if not scores:
        loss = summary["best_valid_loss"]
        logger.info("%s: lowest validation loss %.4f", hparams["locale"], loss)
        return summary
    logger.info(
        "%s: test WER %s%.2f %%, CER %s%.2f %%; %d trained parameters; %s (%.1f MB "
        "a language, %.1f MB shared)",
        hparams["locale"],
        f"{before['WER']:.2f} % -> " if before else "",
        after["WER"],
        f"{before['CER']:.2f} % -> " if before else "",
        after["CER"],
        summary["trained_parameters"],
        adapter_file,
        summary["adapter_bytes"] / 1e6,
        summary["shared_bytes"] / 1e6,
    )
    return summary


if __name__ == "__main__":
    run(main, __doc__)
