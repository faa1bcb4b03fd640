"""Index sets: disjoint, complete, and as even as each strategy promises."""

import itertools

import numpy as np
import pytest

from speechbrain_sumra.allocation import (
    STRATEGIES,
    allocate,
    greedy,
    max_load_bound,
    row_loads,
)


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("number, rank", [(1, 1), (7, 3), (12, 4), (64, 64), (512, 32)])
def test_sets_are_disjoint_and_complete(strategy, number, rank):
    values = np.sort(np.random.default_rng(number).random(number))[::-1]
    sets = allocate(values, rank, strategy)
    assert len(sets) == rank
    assert all(len(indices) > 0 for indices in sets)
    assert sorted(itertools.chain(*sets)) == list(range(number))


def test_rank_need_not_divide():
    assert [len(s) for s in allocate(np.ones(7), 3, "block")] == [3, 2, 2]
    assert [s.tolist() for s in allocate(np.ones(7), 3)] == [[0, 3, 6], [1, 4], [2, 5]]


def test_interleave_is_the_reshape_and_sum_of_table_1():
    rank, number = 4, 12
    rows = np.arange(number * 5.0).reshape(number, 5)
    table_1 = rows.reshape(number // rank, rank, 5).sum(axis=0)
    ours = [rows[indices].sum(axis=0) for indices in allocate(np.ones(number), rank)]
    np.testing.assert_array_equal(table_1, ours)


def test_greedy_gives_ties_to_the_lowest_row():
    sets = greedy(np.array([1.0, 1.0, 1.0, 1.0]), 2)
    assert [s.tolist() for s in sets] == [[0, 2], [1, 3]]


@pytest.mark.parametrize(
    "values, rank, greedy_load, optimum",
    [([3, 3, 2, 2, 2], 2, 7, 6), ([5, 5, 4, 4, 3, 3, 3], 3, 11, 9)],
)
def test_greedy_is_not_optimal(values, rank, greedy_load, optimum):
    """Counter-examples to the theorem of the paper's appendix (Graham 1969)."""
    values = np.array(values, dtype=float)
    assert row_loads(values, greedy(values, rank)).max() == greedy_load
    best = min(
        max(values[np.array(rows) == row].sum() for row in range(rank))
        for rows in itertools.product(range(rank), repeat=len(values))
    )
    assert best == optimum
    assert max_load_bound(values, rank) <= optimum


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("rank", [1, 2, 5, 16])
def test_no_load_is_below_the_bound(strategy, rank):
    values = np.sort(np.random.default_rng(rank).exponential(size=16))[::-1]
    loads = row_loads(values, allocate(values, rank, strategy))
    assert loads.max() >= max_load_bound(values, rank) - 1e-12
    assert loads.sum() == pytest.approx(values.sum())


@pytest.mark.parametrize("rank", [0, -1, 9, 2.0, True, "2", None])
def test_unusable_rank_is_named(rank):
    with pytest.raises(ValueError, match="integer from 1 to 8"):
        allocate(np.ones(8), rank)


def test_unknown_strategy_lists_the_known():
    with pytest.raises(ValueError, match="'sum'.*block, interleave, greedy"):
        allocate(np.ones(8), 2, "sum")


@pytest.mark.parametrize("seed", range(5))
def test_karmarkar_karp_is_more_even_than_greedy(seed):
    """On spectra as weights have them: falling, none far above the others."""
    values = np.sort(np.random.default_rng(seed).gamma(3.0, size=512))[::-1]
    loads = [
        row_loads(values, allocate(values, 32, strategy)).max()
        for strategy in ("karmarkar_karp", "greedy", "interleave")
    ]
    bound = max_load_bound(values, 32)
    assert bound <= loads[0] < loads[1] < loads[2]


def test_karmarkar_karp_leaves_no_row_empty_where_values_vanish():
    values = np.array([3.0, 0.0, 0.0, 0.0])
    sets = allocate(values, 4, "karmarkar_karp")
    assert sorted(s.tolist() for s in sets) == [[0], [1], [2], [3]]
