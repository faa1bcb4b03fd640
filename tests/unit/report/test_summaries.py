"""Summaries are found wherever they are; one that cannot be used is named."""

import json

import pytest

from speechbrain_sumra.report.runs import ReportError
from speechbrain_sumra.report.summaries import FIELDS, find_runs


def change(path, **changes):
    """Rewrite fields of a summary; a value of ... removes one."""
    summary = {**json.loads(path.read_text()), **changes}
    kept = {name: value for name, value in summary.items() if value is not ...}
    path.write_text(json.dumps(kept))


def test_runs_are_found_at_any_depth(results, add_run):
    add_run()
    deep = results / "a" / "b"
    deep.mkdir(parents=True)
    (results / add_run(seed=2)).rename(deep / "summary.json")
    assert [run.path for run in find_runs(results)] == [
        "0/summary.json",
        "a/b/summary.json",
    ]


@pytest.mark.parametrize("name", FIELDS)
def test_a_missing_field_is_named(results, add_run, name):
    path = results / add_run()
    change(path, **{name: ...})
    with pytest.raises(ReportError, match=f"{path} has no '{name}'"):
        find_runs(results)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"lr": "high"}, "expected 'lr' to be int or float, found 'high'"),
        ({"test_wer": 12.0}, "test_wer is 12.0, but .* give 25.0"),
        ({"test_errors": [1]}, "found 1 test_errors and 4 test_words"),
        ({"test_errors": None}, "found 0 test_errors and 4 test_words"),
        ({"test_wer": None, "best_valid_loss": None}, "neither a test_wer nor a best"),
        ({"validations": [{"epoch": 1}]}, "expected epoch and valid_loss"),
    ],
)
def test_a_summary_that_contradicts_itself_is_refused(
    results, add_run, changes, message
):
    path = results / add_run(errors=(1, 2, 0, 1))
    change(path, **changes)
    with pytest.raises(ReportError, match=message) as error:
        find_runs(results)
    assert str(path) in str(error.value)


@pytest.mark.parametrize("text", ["", "{", "[]", "\xff"])
def test_what_is_no_summary_is_refused(results, add_run, text):
    path = results / add_run()
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(ReportError, match=str(path)):
        find_runs(results)


def test_two_runs_with_the_same_settings_are_refused(results, add_run):
    add_run(seed=7)
    add_run(seed=8)
    assert len(find_runs(results)) == 2
    add_run(seed=7, errors=(0, 0, 0, 0))
    with pytest.raises(
        ReportError, match="0/summary.json and .*2/summary.json .* same"
    ):
        find_runs(results)


def test_nothing_to_report_is_an_error(results, tmp_path):
    with pytest.raises(ReportError, match="found no summary.json"):
        find_runs(results)
    with pytest.raises(ReportError, match="Expected a folder"):
        find_runs(tmp_path / "elsewhere")
