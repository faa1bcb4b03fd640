"""Encoder states of a locale are computed ahead, once, and found by trainings."""

import pytest
from compute_features import main
from recipe import ROOT, run_here


@pytest.fixture
def arguments(tiny_whisper, synthetic_corpus, tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    settings = {
        "whisper_hub": tiny_whisper,
        "data_folder": synthetic_corpus,
        "locale": "eo",
        "runs_folder": tmp_path / "runs",
    }
    return [
        "hparams/unadapted_whisper_base.yaml",
        *(f"--{name}={value}" for name, value in settings.items()),
        *("--noprogressbar", "--device=cpu", "--precision=fp32"),
    ]


def written(folder):
    """When each of the states was written."""
    files = (folder / "runs" / "features").rglob("*.safetensors")
    return {path: path.stat().st_mtime_ns for path in files}


def test_every_clip_is_encoded_once(
    arguments, tmp_path, monkeypatch, tiny_whisper, synthetic_corpus
):
    assert main(arguments) == 12 + 4 + 4
    first = written(tmp_path)
    assert len(first) == 20
    assert main(arguments) == 20
    run_here(
        monkeypatch,
        whisper_hub=tiny_whisper,
        data_folder=synthetic_corpus,
        locale="eo",
        runs_folder=tmp_path / "runs",
        rank=4,
        precision="fp32",
        number_of_epochs=1,
        validations_per_epoch=1,
        max_tokens=5,
        num_workers=0,
    )
    assert written(tmp_path) == first


def test_states_that_would_not_stay_are_refused(arguments):
    with pytest.raises(ValueError, match="--feature_cache disk, found ram"):
        main([*arguments, "--feature_cache=ram"])


def test_without_room_there_are_none(arguments, tmp_path):
    assert main([*arguments, "--feature_cache_gb=0.00001"]) == 0
    assert not written(tmp_path)
