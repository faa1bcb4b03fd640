"""The recipe with the real whisper-base, on synthetic and on real speech."""

import jiwer
import pytest
from recipe import read_hypotheses, run_here

pytestmark = pytest.mark.real


@pytest.fixture
def settings(whisper_base, tmp_path):
    return {
        "whisper_hub": whisper_base,
        "runs_folder": tmp_path / "runs",
        "output_folder": tmp_path / "run",
        "number_of_epochs": 1,
        "validations_per_epoch": 1,
        "max_tokens": 45,
        "num_workers": 0,
    }


def check(summary, folder):
    references, hypotheses = read_hypotheses(folder / "test_hypotheses.jsonl")
    assert summary["test_wer"] == pytest.approx(
        100 * jiwer.wer(references, hypotheses), abs=1e-3
    )
    assert summary["trained_parameters"] == 1_297_408 + 512  # and the language token
    assert 0 < summary["validations"][0]["train_loss"] < 10


def test_synthetic_esperanto(monkeypatch, settings, synthetic_corpus, tmp_path):
    settings.update(data_folder=synthetic_corpus, locale="eo")
    check(run_here(monkeypatch, **settings), tmp_path / "run")


def test_real_speech(monkeypatch, settings, real_speech, tmp_path):
    settings.update(data_folder=real_speech, locale="hsb")
    settings.update(train_hours=0.02, dev_hours=0.004, test_hours=0.008)
    check(run_here(monkeypatch, **settings), tmp_path / "run")
