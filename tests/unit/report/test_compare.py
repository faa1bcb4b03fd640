"""Two settings compared: what bootstrap_difference says, and what is refused."""

import numpy as np
import pytest

from speechbrain_sumra.report.compare import compare, main, read_group
from speechbrain_sumra.report.runs import ReportError
from speechbrain_sumra.report.statistics import bootstrap_difference

WORDS = [5, 4, 6, 5]


@pytest.fixture
def run_of(results, add_run):
    """The folder of a run with these errors."""

    def make(errors, **changes):
        path = add_run(errors=errors, **{"words": WORDS, **changes})
        return (results / path).parent

    return make


def test_seeds_are_averaged_and_the_difference_is_that_of_the_bootstrap(run_of):
    first = read_group([run_of([1, 0, 2, 1], seed=1), run_of([3, 0, 0, 1], seed=2)])
    second = read_group([run_of([2, 2, 30, 1])])
    wer, capped = compare(first, second)
    assert (wer["first"], wer["second"]) == pytest.approx((20, 175))
    assert (capped["first"], capped["second"]) == pytest.approx((20, 55))
    mean, words = np.array([2, 0, 1, 1]), np.array(WORDS)
    expected = bootstrap_difference(mean, np.array([2, 2, 6, 1]), words)
    found = (capped["difference"], capped["low"], capped["high"])
    assert found == (expected.value, expected.low, expected.high)
    assert capped["relative"] == pytest.approx(100 * (20 - 55) / 55)
    assert capped["relative_low"] <= capped["relative"] <= capped["relative_high"]


def test_the_command_prints_both_and_their_difference(run_of, capsys):
    one, other = run_of([1, 0, 2, 1], seed=1), run_of([2, 2, 3, 1], seed=2)
    assert main([str(one), "--with", str(other / "summary.json")]) == 0
    printed = capsys.readouterr().out
    assert "WER 20.00" in printed and "WER 40.00" in printed
    assert "-20.00" in printed and "-50.0 %" in printed


def test_other_utterances_and_sweeps_are_refused(run_of, capsys):
    one, other = run_of([1, 0, 2, 1]), run_of([1, 0, 2], words=[5, 4, 6])
    with pytest.raises(ReportError, match="the same utterances"):
        compare(read_group([one]), read_group([other]))
    with pytest.raises(ReportError, match="other test_words"):
        read_group([one, other])
    sweep = run_of(None)
    assert main([str(one), "--with", str(sweep)]) == 1
    assert "is of a sweep" in capsys.readouterr().err
    assert main([str(one), "--with", str(one.parent / "none")]) == 1
    assert "cannot be read" in capsys.readouterr().err
