"""Runs are sorted into tables by their settings."""

from pathlib import Path

import pytest

from speechbrain_sumra.report.runs import ReportError, group_runs
from speechbrain_sumra.report.study import Study, best_of
from speechbrain_sumra.report.summaries import find_runs
from speechbrain_sumra.training.hparams import load_hparams

HPARAMS = Path(__file__).resolve().parents[3] / "hparams"
TABLES = ("methods", "strategies", "hours", "choices")
SUMRA = {"method": "sumra", "lr": 0.0002}


def tables_of(results, path):
    """Tables in which a run stands."""
    study = Study(find_runs(results))
    return {
        name
        for name in TABLES
        for group in getattr(study, name)()
        for run in group.runs
        if run.path == path
    }


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"lr": 0.001}, {"methods"}),
        ({"method": "unadapted", "train_hours": 1}, {"methods"}),
        ({"method": "ft"}, {"methods"}),
        ({"seed": 2}, {"methods"}),
        (SUMRA, {"methods"}),
        ({**SUMRA, "adapter": {"strategy": "greedy"}}, {"strategies"}),
        ({**SUMRA, "adapter": {"row_norm": "unit"}}, {"strategies"}),
        ({**SUMRA, "init_from": "adapters/"}, {"strategies"}),
        ({"method": "dora", "init_from": "adapters/"}, set()),
        ({"language": "none"}, {"choices"}),
        ({"train_norms": False}, {"choices"}),
        ({"avg_checkpoints": 2}, {"choices"}),
        ({**SUMRA, "avg_checkpoints": 2}, {"choices"}),
        ({"label_smoothing": 0.1}, {"choices"}),
        ({"adapted_encoder_layers": 2}, {"choices"}),
        ({"adapted_linears": "mlp"}, {"choices"}),
        ({**SUMRA, "language": "none", "adapter": {"strategy": "greedy"}}, set()),
        ({"train_hours": 1}, {"hours"}),
        ({**SUMRA, "train_hours": 1, "init_from": "adapters/"}, {"hours"}),
        ({"method": "dora", "train_hours": 1}, set()),
        ({"number_of_epochs": 1}, set()),
        ({"adapter": {"encoder_context": "full"}}, set()),
        ({"errors": None, "lr": 0.001}, set()),
    ],
)
def test_a_run_stands_where_its_settings_are_compared(
    results, add_run, changes, expected
):
    add_run()
    add_run("dora")
    add_run("sumra")
    assert tables_of(results, add_run(**changes)) == expected


@pytest.mark.parametrize(
    "method", ["sumra", "lora_fa", "model_average", "sumra_train_a", "lora"]
)
def test_usual_averages_are_those_of_the_experiments(results, add_run, method):
    path = HPARAMS / f"{method}_whisper_base.yaml"
    names = ["number_of_validations", "avg_checkpoints"]
    number, averaged = load_hparams(path, only=names).values()
    record = {"epoch": 1.0, "lr": 1e-3, "train_loss": 2.0, "valid_loss": 2.0}
    settings = {"avg_checkpoints": averaged, "validations": [record] * number}
    if method == "sumra_train_a":
        settings["adapter"] = {"train_down_proj": True}
    add_run(method, **settings)
    study = Study(find_runs(results))
    assert study.unusual(study.runs[0]) == {}


def test_where_none_averages_the_best_checkpoint_is_usual(results, add_run):
    record = {"epoch": 1.0, "lr": 1e-3, "train_loss": 2.0, "valid_loss": 2.0}
    four = {"validations": [record] * 4}
    best = add_run("sumra", avg_checkpoints=1, **four)
    assert "methods" in tables_of(results, best)
    add_run("sumra", rank=2, avg_checkpoints=2, **four)
    assert "methods" in tables_of(results, best)
    mean = add_run("sumra", avg_checkpoints=2, **four)
    assert tables_of(results, best) == {"choices"}
    assert "methods" in tables_of(results, mean)


def test_the_usual_runs_stand_beside_the_others(results, add_run):
    usual = add_run("sumra"), add_run("lora"), add_run("lora_fa")
    add_run("sumra", adapter={"strategy": "block"})
    add_run("sumra", train_hours=1)
    add_run("sumra", train_norms=False)
    sumra, lora, lora_fa = (tables_of(results, path) for path in usual)
    assert sumra == set(TABLES)
    assert lora == {"methods", "strategies", "hours"}
    assert lora_fa == {"methods", "strategies"}


def test_a_table_has_the_locales_in_which_something_is_compared(results, add_run):
    for locale in ("hsb", "eo"):
        add_run("sumra", locale=locale)
    add_run("sumra", adapter={"strategy": "block"})
    add_run("sumra", train_norms=False)
    study = Study(find_runs(results))
    assert {group.run.locale for group in study.methods()} == {"hsb", "eo"}
    for groups in (study.strategies(), study.choices()):
        assert [group.run.locale for group in groups] == ["hsb", "hsb"]


def test_full_hours_are_those_of_the_locale(results, add_run):
    add_run(locale="hsb", train_hours=10)
    other = add_run(locale="eo", train_hours=1)
    assert tables_of(results, other) == {"methods"}


def test_most_runs_decide_how_many_epochs_are_usual(results, add_run):
    short = [add_run(method, number_of_epochs=1) for method in ("lora", "dora")]
    long = add_run("sumra", number_of_epochs=10)
    assert tables_of(results, long) == set()
    assert all(tables_of(results, path) == {"methods"} for path in short)


def test_a_cell_goes_to_most_seeds_and_then_to_the_lowest_loss(results, add_run):
    add_run(lr=1e-4, best_valid_loss=1.2, errors=(4, 4, 4, 4))
    add_run(lr=2e-4, best_valid_loss=1.3, errors=(0, 0, 0, 0))
    groups = group_runs(find_runs(results))
    assert best_of(groups).run.lr == 1e-4
    add_run(lr=2e-4, best_valid_loss=1.3, seed=2)
    assert best_of(group_runs(find_runs(results))).run.lr == 2e-4


def test_an_unknown_baseline_is_an_error(results, add_run):
    add_run("my_own")
    assert Study(find_runs(results), "my_own").baseline == "my_own"
    with pytest.raises(ReportError, match="one of unadapted.*found 'lroa'"):
        Study(find_runs(results), "lroa")
