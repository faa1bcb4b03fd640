"""Intervals agree with published tables, formulas, and the share they promise."""

import math

import numpy as np
import pytest

from speechbrain_sumra.report.statistics import (
    bootstrap_difference,
    mean_interval,
    t_quantile,
)


# NIST/SEMATECH e-Handbook of Statistical Methods, 1.3.6.7.2, column 0.975
@pytest.mark.parametrize(
    ("freedom", "printed"),
    [(1, 12.706), (2, 4.303), (3, 3.182), (5, 2.571), (10, 2.228), (100, 1.984)],
)
def test_the_quantile_is_the_published_one(freedom, printed):
    assert t_quantile(freedom) == pytest.approx(printed, abs=5e-4)


def test_the_interval_over_seeds_is_t_s_over_root_n():
    mean, half = mean_interval([61.0, 62.0, 63.0])
    assert mean == 62.0
    assert half == pytest.approx(4.3027 / math.sqrt(3), abs=1e-3)


def test_one_seed_has_no_interval():
    assert mean_interval([61.0]) == (61.0, None)


@pytest.fixture
def counts():
    generator = np.random.default_rng(0)
    words = generator.integers(3, 12, size=400)
    return generator.binomial(words, 0.5), generator.binomial(words, 0.4), words


def test_equal_runs_differ_by_exactly_nothing(counts):
    worse, _, words = counts
    found = bootstrap_difference(worse, worse.copy(), words)
    assert (found.value, found.low, found.high) == (0, 0, 0)
    assert not found.excludes_zero


def test_a_seed_fixes_the_interval(counts):
    first = bootstrap_difference(*counts, resamples=1200, seed=3)
    assert bootstrap_difference(*counts, resamples=1200, seed=3) == first
    assert bootstrap_difference(*counts, resamples=1200, seed=4) != first


def test_the_worse_has_the_positive_difference(counts):
    worse, better, words = counts
    found = bootstrap_difference(worse, better, words)
    assert found.value == pytest.approx(100 * (worse - better).sum() / words.sum())
    assert 0 < found.low < found.value < found.high
    assert found.excludes_zero
    turned = bootstrap_difference(better, worse, words)
    assert (turned.low, turned.high) == pytest.approx((-found.high, -found.low))


def test_the_interval_is_the_normal_one_for_many_utterances():
    generator = np.random.default_rng(1)
    errors, others = generator.binomial(10, [[0.5], [0.45]], size=(2, 2000))
    words = np.full(2000, 10)
    found = bootstrap_difference(errors, others, words)
    deviation = 10 * np.std(errors - others) / math.sqrt(2000)
    assert found.high - found.low == pytest.approx(2 * 1.96 * deviation, rel=0.05)


def test_an_interval_misses_the_truth_in_about_one_case_of_twenty():
    generator = np.random.default_rng(2)
    cases, missed = 200, 0
    for _ in range(cases):
        words = generator.integers(5, 15, size=120)
        errors, others = generator.binomial(words, 0.5, size=(2, 120))
        missed += bootstrap_difference(
            errors, others, words, resamples=1000
        ).excludes_zero
    assert 2 <= missed <= 20  # binomial: 10 +- 3.1


def test_other_utterances_are_an_error():
    with pytest.raises(ValueError, match="same utterances, found 2, 3 and 2"):
        bootstrap_difference(np.ones(2), np.ones(3), np.ones(2))
