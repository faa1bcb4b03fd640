"""The lowest validation loss chooses, and the edge of a sweep is a warning."""

import csv
import io

from speechbrain_sumra.report.learning_rates import learning_rate_table
from speechbrain_sumra.report.study import Study
from speechbrain_sumra.report.summaries import find_runs


def make(results):
    return learning_rate_table(Study(find_runs(results)))


def sweep(add_run, losses, **changes):
    return {
        lr: add_run(errors=None, lr=lr, best_valid_loss=loss, **changes)
        for lr, loss in losses.items()
    }


def row(table):
    ((_, columns, (line,)),) = table.blocks
    return dict(zip(columns, line, strict=True))


def test_the_lowest_loss_is_chosen(results, add_run):
    paths = sweep(add_run, {1e-4: 1.5, 2e-4: 1.25, 5e-4: 1.5})
    table = make(results)
    found = row(table)
    assert found["0.0002"] == "**1.2500**"
    assert found["0.0001"] == found["0.0005"] == "1.5000"
    assert found["chosen"] == "0.0002"
    records = list(csv.DictReader(io.StringIO(table.csv())))
    assert [record["summaries"] for record in records] == list(paths.values())
    assert [record["chosen"] for record in records] == ["False", "True", "False"]


def test_the_edge_of_the_grid_is_a_warning(results, add_run):
    sweep(add_run, {1e-4: 1.5, 2e-4: 1.4, 5e-4: 1.3})
    assert row(make(results))["chosen"] == "0.0005 ⚠ edge"


def test_seeds_are_averaged(results, add_run):
    sweep(add_run, {1e-4: 1.0, 2e-4: 1.25, 5e-4: 2.0}, seed=1)
    sweep(add_run, {1e-4: 2.0, 2e-4: 1.25, 5e-4: 2.0}, seed=2)
    found = row(make(results))
    assert (found["0.0001"], found["chosen"]) == ("1.5000", "0.0002")


def test_what_diverged_is_never_chosen(results, add_run):
    sweep(add_run, {1e-4: 1.5, 2e-4: 1.4, 5e-4: float("nan")})
    found = row(make(results))
    assert (found["0.0005"], found["chosen"]) == ("diverged", "0.0002")


def test_all_diverged_is_no_choice(results, add_run):
    sweep(add_run, {1e-4: float("inf")})
    assert row(make(results))["chosen"] == "–"


def test_a_test_at_another_learning_rate_is_marked(results, add_run):
    sweep(add_run, {1e-4: 1.5, 2e-4: 1.4, 5e-4: 1.5})
    assert row(make(results))["tested"] == "–"
    add_run(lr=1e-4)
    assert row(make(results))["tested"] == "0.0001 ⚠"
    add_run(lr=2e-4)
    assert row(make(results))["tested"] == "0.0001, 0.0002"


def test_methods_and_ranks_have_rows_of_their_own(results, add_run):
    sweep(add_run, {1e-4: 1.5})
    sweep(add_run, {2e-4: 1.5}, rank=2)
    sweep(add_run, {2e-4: 1.5}, method="sumra")
    ((heading, columns, lines),) = make(results).blocks
    assert heading == "whisper-base, hsb"
    assert [line[:2] for line in lines] == [
        ["LoRA", "2"],
        ["LoRA", "32"],
        ["SumRA", "32"],
    ]
    assert lines[0][columns.index("0.0001")] == "–"
