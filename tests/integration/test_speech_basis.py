"""From speech of other languages to a shared A and a start, on a tiny Whisper."""

import math

import pytest
import torch
from recipe import ROOT, read_json, run_here

from speechbrain_sumra.adapter_file import read_adapter
from speechbrain_sumra.basis import Basis
from speechbrain_sumra.speech_basis import start_file

TINY = {
    "rank": 4,
    "lr": 0.01,
    "number_of_epochs": 1,
    "validations_per_epoch": 2,
    "max_tokens": 15,
    "num_workers": 0,
    "score_unadapted": False,
}


@pytest.fixture
def settings(tiny_whisper, synthetic_corpus, tmp_path):
    # The same speech under the names of two languages that Whisper knows.
    for name in ("cs", "sv-SE"):
        (tmp_path / "cv").mkdir(exist_ok=True)
        (tmp_path / "cv" / name).symlink_to(synthetic_corpus / "eo")
    return {
        **TINY,
        "whisper_hub": tiny_whisper,
        "data_folder": tmp_path / "cv",
        "runs_folder": tmp_path / "runs",
    }


def make_basis(monkeypatch, strategy, **settings):
    import make_basis

    monkeypatch.chdir(ROOT)
    values = (f"--{name}={value}" for name, value in settings.items())
    return make_basis.main(
        ["hparams/sumra_whisper_base.yaml", f"--strategy={strategy}", *values]
    )


@pytest.mark.parametrize(
    ("strategy", "adapted_layers"), [("inputs", 0), ("gradients", 1), ("corda", 0)]
)
def test_a_basis_from_speech_is_made_once_and_trained_on(
    monkeypatch, settings, synthetic_corpus, tmp_path, strategy, adapted_layers
):
    settings["adapted_encoder_layers"] = adapted_layers
    path = make_basis(
        monkeypatch,
        strategy,
        **settings,
        locale="cs+sv-SE",
        calibration_utterances=5,
    )
    written = path.stat().st_mtime_ns
    target = {**settings, "data_folder": synthetic_corpus, "locale": "eo"}
    run = tmp_path / "run"
    summary = run_here(monkeypatch, **target, strategy=strategy, output_folder=run)
    assert summary["basis_file"] == path.name
    assert path.stat().st_mtime_ns == written
    basis = Basis.load(path)
    assert summary["adapter"]["basis_fingerprint"] == basis.fingerprint
    assert basis.made_from["locales"] == ["cs", "sv-SE"]
    assert basis.made_from["utterances"] == 5
    assert len(basis.tensors) == 20 + 6 * adapted_layers
    # Of the same speech it is there already, of other speech it would be another.
    again = {**settings, "locale": "cs+sv-SE", "calibration_utterances": 5}
    assert make_basis(monkeypatch, strategy, **again) == path
    with pytest.raises(ValueError, match="'seed': 7.*Remove it, or name another"):
        make_basis(monkeypatch, strategy, **again, seed=7)
    assert path.stat().st_mtime_ns == written


def test_without_its_basis_the_strategy_is_refused(
    monkeypatch, settings, synthetic_corpus
):
    target = {**settings, "data_folder": synthetic_corpus, "locale": "eo"}
    with pytest.raises(ValueError, match="make_basis.py"):
        run_here(monkeypatch, **target, strategy="gradients")


def test_a_learned_a_is_shared_and_started_from(
    monkeypatch, settings, synthetic_corpus, tmp_path
):
    together = run_here(
        monkeypatch,
        "sumra_train_a",
        **settings,
        locale="cs+sv-SE",
        language="own",
        output_folder=tmp_path / "together",
    )
    assert together["locale"] == "cs+sv-SE"
    adapter = tmp_path / "together" / "adapter.safetensors"
    basis = make_basis(monkeypatch, "learned", **settings, init_from=adapter)
    metadata, tensors = read_adapter(start_file(basis))
    assert metadata["basis_fingerprint"] == Basis.load(basis).fingerprint

    target = {**settings, "data_folder": synthetic_corpus, "locale": "eo", "lr": 1e-12}
    summary = run_here(
        monkeypatch,
        **target,
        strategy="learned",
        init_from="learned",
        output_folder=tmp_path / "run",
    )
    assert summary["init_from"] == "learned"
    # With no learning to speak of, it is still where it started.
    _, trained = read_adapter(tmp_path / "run" / "adapter.safetensors")
    for name, value in tensors.items():
        torch.testing.assert_close(trained[name], value, atol=1e-6, rtol=1e-4)

    mean = {**target, "output_folder": tmp_path / "mean"}
    own = tmp_path / "run" / "adapter.safetensors"
    weights = {str(start_file(basis)): 0.75, str(own): 0.25}
    mean = run_here(monkeypatch, **mean, strategy="learned", init_from=weights)
    assert mean["init_from"] == weights
    _, started = read_adapter(tmp_path / "mean" / "adapter.safetensors")
    for name, value in tensors.items():
        torch.testing.assert_close(started[name], value, atol=1e-6, rtol=1e-4)


def test_a_run_without_decoding_has_losses_alone(
    monkeypatch, settings, synthetic_corpus, tmp_path
):
    target = {**settings, "data_folder": synthetic_corpus, "locale": "eo"}
    folder = tmp_path / "run"
    summary = run_here(monkeypatch, **target, decode=False, output_folder=folder)
    assert summary == read_json(folder / "summary.json")
    assert summary["test_wer"] is summary["test_errors"] is None
    losses = [record["valid_loss"] for record in summary["validations"]]
    assert len(losses) == 2 and all(map(math.isfinite, losses))
    assert summary["best_valid_loss"] == min(losses)
    assert not (folder / "adapter.safetensors").exists()
    assert not (folder / "test_hypotheses.jsonl").exists()
