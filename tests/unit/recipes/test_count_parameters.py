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


def cells(text):
    """Of a Markdown table, by method and column."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    header, _, *rows = ([cell.strip() for cell in li.split("|")[1:-1]] for li in lines)
    return {
        (row[0], column): cell
        for row in rows
        for column, cell in zip(header[1:], row[1:], strict=True)
    }


def test_the_readme_has_the_table():
    """All methods and ranks; large_v2, which is slow to build, of two methods."""
    readme = (ROOT / "README.md").read_text("utf-8")
    printed = cells(readme[readme.index("| method | base r=2 ") :].split("\n\n")[0])
    assert printed.keys() == {
        (method, f"{size} r={rank}")
        for method in METHODS
        for size in SIZES
        for rank in (2, 32)
    }
    counted = {
        **cells(table(METHODS, ["base", "small"], [2, 32])),
        **cells(table(["dora", "sumra"], ["large_v2"], [32])),
    }
    assert counted.items() <= printed.items()
    assert counted["dora", "large_v2 r=32"] == "34.86 (34.9)"
