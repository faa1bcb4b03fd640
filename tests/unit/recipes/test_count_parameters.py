"""Trained parameters against the paper's, from the shipped experiment files."""

import pytest
from count_parameters import PAPER, count_trained, table

EXPLAINED = ["lora", "dora", "pissa", "corda", "vera"]


@pytest.mark.parametrize("rank", [2, 32])
@pytest.mark.parametrize("method", EXPLAINED)
def test_as_the_paper_prints_them(method, rank):
    millions = count_trained(method, "small", rank) / 1e6
    assert round(millions, 1) == PAPER["small", rank][method]


@pytest.mark.parametrize("method", ["lora", "dora"])
def test_as_the_paper_prints_them_for_large_v2(method):
    millions = count_trained(method, "large_v2", 32) / 1e6
    assert round(millions, 1) == PAPER["large_v2", 32][method]


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


def test_table_has_the_papers_figures_beside():
    lines = table(["unadapted", "lora"], ["small"], [2]).splitlines()
    assert lines[0] == "| method | small r=2 |"
    assert lines[2] == "| unadapted | 0.00 |"
    assert lines[3] == "| lora | 0.54 (paper 0.5) |"
