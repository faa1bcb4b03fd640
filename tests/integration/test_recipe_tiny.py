"""The whole recipe on a tiny random Whisper: files, figures, resume, DDP."""

import sys

import jiwer
import pytest
import torch
from recipe import (
    ROOT,
    TRAIN,
    command,
    read_hypotheses,
    read_json,
    run_command,
    run_here,
    short_run,
)
from safetensors.torch import load_file

from speechbrain_sumra.adapter_file import load_adapter, read_metadata
from speechbrain_sumra.precision import choose_precision
from speechbrain_sumra.training.brain import ASR
from speechbrain_sumra.training.hparams import HparamsError, load_hparams


@pytest.fixture
def settings(tiny_whisper, synthetic_corpus, tmp_path):
    return short_run(tiny_whisper, synthetic_corpus, tmp_path)


def test_a_run_leaves_what_it_promises(monkeypatch, settings, tmp_path):
    summary = run_here(
        monkeypatch,
        **settings,
    )
    folder = tmp_path / "run"
    names = {path.name for path in folder.iterdir()}
    assert names >= {
        "adapter.safetensors",
        "hyperparams.yaml",
        "inputs.json",
        "log.txt",
        "manifests",
        "save",
        "summary.json",
        "tensorboard",
        "test_hypotheses.jsonl",
        "test_hypotheses_before.jsonl",
        "train_log.txt",
        "training.png",
        "unadapted.json",
        "wer_test.txt",
        "wer_test_before.txt",
    }
    assert (folder / "manifests" / "manifest_report.json").exists()
    assert any((folder / "tensorboard").iterdir())

    assert summary == read_json(folder / "summary.json")
    inputs = read_json(folder / "inputs.json")
    assert inputs["data_hash"] == summary["data_hash"]
    described = read_metadata(folder / "adapter.safetensors")
    for name in ("base_fingerprint", "basis_fingerprint"):
        assert inputs[name] == described[name]
    references, hypotheses = read_hypotheses(folder / "test_hypotheses.jsonl")
    assert len(references) == 4
    assert summary["test_wer"] == pytest.approx(
        100 * jiwer.wer(references, hypotheses), abs=1e-3
    )
    assert len(summary["validations"]) == 6
    chosen = choose_precision("auto", "cpu")
    assert summary["precision"] == summary["eval_precision"] == chosen
    assert [r["epoch"] for r in summary["validations"]][-1] == 2
    losses = [record["train_loss"] for record in summary["validations"]]
    assert losses[-1] < losses[0]
    assert summary["best_valid_wer"] == min(r["WER"] for r in summary["validations"])
    assert set(summary["seconds"]) == {
        "build",
        "prepare",
        "test_before",
        "initialise",
        "train",
        "validate",
        "test_after",
    }
    trained = load_file(folder / "adapter.safetensors")
    assert summary["trained_parameters"] == sum(t.numel() for t in trained.values())
    assert summary["adapter_bytes"] == (folder / "adapter.safetensors").stat().st_size
    assert read_metadata(folder / "adapter.safetensors")["locale"] == "eo"

    # The kept experiment stands by itself, and takes the adapter.
    again = load_hparams(folder / "hyperparams.yaml")
    load_adapter(folder / "adapter.safetensors", again["whisper"])

    # Started again it has nothing to train and reports the same.
    same = run_here(
        monkeypatch,
        **settings,
    )
    assert same["test_wer"] == summary["test_wer"]
    assert same["validations"] == summary["validations"]
    with pytest.raises(HparamsError, match="lr: 0.01 there, 0.02 now"):
        run_here(
            monkeypatch,
            **{**settings, "lr": 0.02},
        )
    # Options that SpeechBrain takes for itself are settings, too.
    with pytest.raises(HparamsError, match="max_grad_norm: 5.0 there, 1.0 now"):
        run_here(monkeypatch, **settings, max_grad_norm=1.0)

    # Scored now, an unadapted model is still not what was trained.
    (folder / "unadapted.json").unlink()
    late = run_here(monkeypatch, **settings)
    assert late["test_wer_before"] == summary["test_wer_before"]
    assert late["test_loss"] == summary["test_loss"]


@pytest.mark.parametrize(
    ("context", "adapted_layers"), [("full", 0), ("clip", 0), ("clip", 1)]
)
def test_kept_encoder_states_change_no_loss(
    monkeypatch, settings, tmp_path, context, adapted_layers
):
    settings.update(number_of_epochs=1, encoder_context=context, score_unadapted=False)
    settings.update(adapted_encoder_layers=adapted_layers)
    courses = []
    # The second of "disk" reads what the first wrote.
    for number, mode in enumerate(("off", "disk", "disk", "ram")):
        settings["output_folder"] = tmp_path / f"{number}_{mode}"
        courses.append(run_here(monkeypatch, **settings, feature_cache=mode))
    for course in courses[1:]:
        assert course["validations"] == courses[0]["validations"]
        assert course["test_loss"] == courses[0]["test_loss"]


@pytest.mark.parametrize("method", ["sumra", "corda", "adalora", "lora_plus"])
def test_resumed_run_equals_the_uninterrupted_one(
    monkeypatch, settings, tmp_path, method
):
    settings["method"] = method
    whole = run_here(monkeypatch, **settings)

    settings["output_folder"] = tmp_path / "interrupted"
    end_validation = ASR._end_validation
    batches = []

    def stop_after_two_validations(self, stats, epoch):
        end_validation(self, stats, epoch)
        if epoch == 2:
            monkeypatch.setattr(ASR, "fit_batch", die)

    def die(self, batch):
        batches.append(batch)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        fit_batch = ASR.fit_batch
        patch.setattr(ASR, "_end_validation", stop_after_two_validations)
        with pytest.raises(KeyboardInterrupt):
            run_here(monkeypatch, **settings)
        monkeypatch.setattr(ASR, "fit_batch", fit_batch)
    assert len(batches) == 1

    resumed = run_here(monkeypatch, **settings)
    assert resumed["validations"] == whole["validations"]
    assert resumed["test_wer"] == whole["test_wer"]
    one = load_file(tmp_path / "run" / "adapter.safetensors")
    other = load_file(tmp_path / "interrupted" / "adapter.safetensors")
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("strategy", ["block", "greedy"])
@pytest.mark.parametrize("rank", [2])
def test_strategies_ranks_and_precision(monkeypatch, settings, strategy, rank):
    settings.update(strategy=strategy, rank=rank, precision="bf16")
    settings.update(number_of_epochs=1, validations_per_epoch=1, train_norms=False)
    summary = run_here(monkeypatch, **settings, score_unadapted=False)
    assert summary["adapter"]["strategy"] == strategy
    assert summary["test_wer_before"] is None and summary["test_wer"] > 0
    kept = read_json(settings["output_folder"] / "settings.json")
    assert kept["precision"] == kept["eval_precision"] == "bf16"
    assert summary["precision"] == summary["eval_precision"] == "bf16"
    (features,) = (settings["runs_folder"] / "features").iterdir()
    assert "_bf16_" in features.name
    # Two decoder layers of width 16 and 32: B, and the language token.
    assert summary["trained_parameters"] == 2 * rank * (8 * 16 + 32 + 16) + 16


@pytest.mark.parametrize("method", ["sumra", "corda"])
def test_two_processes_train_together(settings, method):
    launcher = (
        *(sys.executable, "-m", "torch.distributed.run", "--standalone"),
        "--nproc_per_node=2",
    )
    settings.update(distributed_backend="gloo")
    arguments = command(method, **settings)
    done = run_command(arguments, launcher)
    assert done.returncode == 0, done.stderr[-3000:]
    summary = read_json(settings["output_folder"] / "summary.json")
    matrices = {"sumra": 1, "corda": 2}[method]  # of each layer, of equal sizes
    assert summary["trained_parameters"] == matrices * 2 * 4 * 176 + 15 * 16
    losses = [record["train_loss"] for record in summary["validations"]]
    assert len(losses) == 6 and all(0 < loss < 100 for loss in losses)
    assert losses[-1] < losses[0]


@pytest.mark.parametrize("folder", [".", "recipes/CommonVoice"])
def test_help_from_both_folders(folder):
    done = run_command(["--help"], cwd=ROOT / folder)
    assert done.returncode == 0
    assert "--locale" in done.stdout and TRAIN.name in done.stdout


@pytest.mark.parametrize(
    "wrong, message",
    [
        ({"method": "pissa", "rank": 17}, "needs 17 components"),
        ({"method": "vera", "lora_plus_ratio": 16}, "train two matrices"),
        ({"rnak": 4}, "no setting 'rnak'; did you mean 'rank'?"),
        ({"locale": "xx"}, "xx.*eo"),
        ({"whisper_hub": "openai/whisper-nothing"}, "openai/whisper-nothing"),
        ({"strategy": "sum"}, "block, interleave, greedy"),
        ({"rank": 17}, "from 1 to 16"),
        ({"language": "klingon"}, "Unknown language 'klingon'"),
        ({"validations_per_epoch": 100}, "--validations_per_epoch"),
        ({"number_of_epochs": 0.5}, "whole number_of_validations"),
        ({"models_to_average": 2, "decode": False}, "where models are averaged"),
    ],
)
def test_bad_settings_are_refused(monkeypatch, settings, wrong, message):
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        run_here(monkeypatch, **{**settings, **wrong})


@pytest.mark.parametrize(
    "method, changes, message",
    [
        ("sumra", {"rank": 17}, "from 1 to 16"),
        ("lora", {"without_peft": True}, "pip install 'speechbrain-sumra[baselines]'"),
    ],
)
def test_an_error_is_one_line(settings, tmp_path, method, changes, message):
    if changes.pop("without_peft", False):
        (tmp_path / "peft.py").write_text("raise ImportError('no PEFT here')\n")
    arguments = command(method, **{**settings, **changes})
    done = run_command(arguments, python_path=tmp_path)
    assert done.returncode == 1
    assert message in done.stderr.strip().splitlines()[-1]
    assert "Traceback" not in done.stderr
