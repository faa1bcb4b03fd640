"""Synthetic summaries, as train.py writes them."""

import json
from itertools import count

import pytest

BASE = "base" * 16
WORDS = [4, 4, 4, 4]
ADAPTERS = {
    "unadapted": {"method": None},
    "ft": {"method": None},
    "lora": {"method": "Lora", "frozen": [], "row_norm": "raw"},
    "lora_fa": {"method": "Lora", "frozen": ["*.lora_A.*"], "row_norm": "raw"},
    "vera": {"method": "Vera", "row_norm": "raw"},
    "sumra": {
        "method": "SumRA",
        "strategy": "interleave",
        "row_norm": "raw",
        "train_down_proj": False,
    },
}


def summary(method="lora", rank=32, adapter=None, errors=(1, 2, 0, 1), **changes):
    """What a run's summary.json holds; errors None makes a run of a sweep."""
    trained = 0 if method == "unadapted" else 1_000_000 * rank // 32
    settings = ADAPTERS.get(method, ADAPTERS["lora"])
    described = {**settings, "encoder_context": "clip", "base_fingerprint": BASE}
    validations = [
        {"epoch": epoch, "lr": 1e-3, "train_loss": 2.0, "valid_loss": 2.0 - epoch / 4}
        for epoch in (0.5, 1.0)
    ]
    tested = {
        "test_wer": None,
        "test_cer": None,
        "test_loss": None,
        "test_errors": None,
        "test_words": None,
    }
    if errors is not None:
        words = changes.pop("words", WORDS)
        tested = {
            "test_wer": round(100 * sum(errors) / sum(words), 6),
            "test_cer": 10.0,
            "test_loss": 1.0,
            "test_errors": list(errors),
            "test_words": list(words),
        }
    return {
        **tested,
        "experiment": f"{method}_whisper_base",
        "base_model": "openai/whisper-base",
        "locale": "hsb",
        "rank": rank,
        "lr": 0.0005,
        "lora_plus_ratio": 1,
        "label_smoothing": 0.0,
        "seed": 1,
        "language": "new",
        "train_norms": True,
        "train_hours": 10,
        "train_hours_kept": 2.03,
        "number_of_epochs": 2,
        "init_from": None,
        "avg_checkpoints": None if errors is None else 1,  # half of two validations
        "data_hash": "d" * 64,
        "versions": {"python": "3.11.7", "torch": "2.14.1"},
        "seconds": {"train": 10.0, "validate": 2.5},
        "peak_memory_bytes": 10**9,
        "trained_parameters": trained,
        "adapter_bytes": 4 * trained,
        "shared_bytes": 0,
        "test_wer_before": 145.0,
        "best_valid_wer": None,
        "best_valid_loss": None if method == "unadapted" else 1.5,
        "validations": [] if method == "unadapted" else validations,
        "largest_basis_figures": {},
        "adapter": {**described, **(adapter or {})},
        **changes,
    }


@pytest.fixture
def results(tmp_path):
    """The folder in which ``add_run`` puts runs."""
    folder = tmp_path / "results"
    folder.mkdir()
    return folder


@pytest.fixture
def add_run(results):
    """A function that writes a run's summary and returns its path in the folder.

    Folders have numbers for names, so that nothing can follow from them.
    """
    numbers = count()

    def add(method="lora", **changes):
        path = f"{next(numbers)}/summary.json"
        (results / path).parent.mkdir()
        text = json.dumps(summary(method, **changes))
        (results / path).write_text(text, encoding="utf-8")
        return path

    return add
