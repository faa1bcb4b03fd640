"""Trained parameters against the paper's, from the shipped experiment files."""

from pathlib import Path

import pytest
from count_parameters import METHODS, PAPER, SIZES, count_trained, table

ROOT = Path(__file__).resolve().parents[3]

EXPLAINED = ["lora", "dora", "pissa", "corda", "vera"]


@pytest.mark.parametrize("rank", [2, 32])
@pytest.mark.parametrize("method", EXPLAINED)
def test_as_the_paper_prints_them(method, rank):
    millions = count_trained(method, "small", rank) / 1e6
    assert round(millions, 1) == PAPER["small", rank][method]


@pytest.mark.parametrize(
    "size, rank, millions",
    [("small", 2, 0.30), ("small", 32, 3.89), ("base", 32, 1.30)],
)
def test_sumra_and_lora_fa_train_b_and_norms(size, rank, millions):
    """The paper prints more for SumRA; no rule that we know gives its numbers."""
    assert round(count_trained("sumra", size, rank) / 1e6, 2) == millions
    assert count_trained("lora_fa", size, rank) == count_trained("sumra", size, rank)


def test_rank_64_of_sumra_is_rank_32_of_lora():
    """Square layers have as many numbers in A as in B; fc1 and fc2 together too."""
    assert count_trained("sumra", "base", 64) == count_trained("lora", "base", 32)


def test_averaged_models_count_together():
    assert count_trained("model_average", "base", 2) == count_trained(
        "sumra", "base", 8
    )


def test_the_readme_has_the_table():
    """All methods, models and ranks; LoRA's and DoRA's figures are the paper's."""
    lines = table(METHODS, list(SIZES), [2, 32])
    assert lines in (ROOT / "README.md").read_text("utf-8")
    rows = {line.split(" | ")[0].strip("| "): line for line in lines.splitlines()}
    assert "34.33 (34.3) |" in rows["lora"] and "34.86 (34.9) |" in rows["dora"]
