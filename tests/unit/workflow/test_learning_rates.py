"""A grid for each group; the lowest loss decides, whatever diverged."""

import json
import math

import pytest
from learning_rates import choose_learning_rate, main, sweep_runs
from run import ConfigError, make_run

SUMRA = {"method": "sumra", "model": "whisper_base", "locale": "eo", "seed": 1}
GRIDS = [
    {"values": [0.3, 0.1, 0.2]},
    {"method": ["sumra", "lora"], "values": [0.01, 0.02]},
    {"method": "sumra", "row_norm": "unit", "values": [0.5, 0.6]},
]


def summaries(folder, losses):
    for lr, loss in losses.items():
        path = folder / f"{lr}.json"
        path.write_text(json.dumps({"lr": lr, "best_valid_loss": loss}))
        yield path


@pytest.mark.parametrize(
    "changes, rates",
    [
        ({"method": "dora"}, [0.1, 0.2, 0.3]),
        ({}, [0.01, 0.02]),
        ({"row_norm": "unit"}, [0.5, 0.6]),
    ],
)
def test_the_last_grid_that_fits_counts(changes, rates):
    run = make_run({**SUMRA, **changes})
    tried = sweep_runs(run, {"locale": "hsb", "lr": GRIDS}).values()
    assert [run["lr"] for run in tried] == rates


def test_a_sweep_run_is_the_run_on_the_sweeps_data_with_losses_alone():
    run = make_run({**SUMRA, "rank": 2, "train_hours": 100, "strategy": "greedy"})
    sweep = {"locale": "hsb", "seed": 7, "number_of_epochs": 1, "lr": GRIDS}
    for swept in sweep_runs(run, sweep).values():
        assert swept.settings == {
            "locale": "hsb",
            "rank": 2,
            "strategy": "greedy",
            "seed": 7,
            "number_of_epochs": 1,
            "decode": False,
            "score_unadapted": False,
            "lr": swept["lr"],
        }
        assert swept.group is None


@pytest.mark.parametrize(
    "sweep, message",
    [
        ({"lr": GRIDS}, "expected locale under sweep"),
        ({}, "expected locale and lr under sweep"),
        ({"locale": "hsb", "lr": []}, "two or more learning rates.*found \\[\\]"),
        ({"locale": "hsb", "lr": [{"values": [0.1]}]}, "two or more"),
        ({"locale": "hsb", "lr": [{"values": ["1e-4", 0.1]}]}, "1e-4 as text"),
        ({"locale": "hsb", "epochs": 1, "lr": GRIDS}, "has no setting 'epochs'"),
    ],
)
def test_a_sweep_that_chooses_nothing_is_refused(sweep, message):
    with pytest.raises(ConfigError, match=message):
        sweep_runs(make_run(SUMRA), sweep)


def test_the_lowest_loss_is_chosen_and_an_edge_is_said(tmp_path):
    losses = {0.1: 2.0, 0.2: 1.0, 0.4: 1.5}
    found = choose_learning_rate(summaries(tmp_path, losses))
    assert found == {
        "lr": 0.2,
        "losses": [[0.1, 2.0], [0.2, 1.0], [0.4, 1.5]],
        "at_edge": False,
    }
    for lr, lowest in {0.1: 0.5, 0.4: 0.5}.items():
        found = choose_learning_rate(summaries(tmp_path, {**losses, lr: lowest}))
        assert found["lr"] == lr and found["at_edge"]


def test_what_diverged_is_never_chosen(tmp_path):
    losses = {0.1: 2.0, 0.2: 1.0, 0.4: math.nan, 0.5: 0.0, 0.8: None}
    (tmp_path / "stub.json").write_text('{"lr": 1.6, "diverged": true}')
    files = [*summaries(tmp_path, losses), tmp_path / "stub.json"]
    found = choose_learning_rate(files)
    assert found["lr"] == 0.2 and not found["at_edge"]
    assert found["losses"][2:] == [[lr, None] for lr in (0.4, 0.5, 0.8, 1.6)]
    with pytest.raises(ValueError, match="All runs diverged.*0.4, 1.6"):
        choose_learning_rate([tmp_path / "0.4.json", tmp_path / "stub.json"])


def test_the_command_writes_what_was_chosen(tmp_path):
    files = list(summaries(tmp_path, {0.1: 2.0, 0.2: 1.0}))
    main([str(tmp_path / "sweep" / "lr.json"), *map(str, files)])
    written = json.loads((tmp_path / "sweep" / "lr.json").read_text())
    assert written == choose_learning_rate(files)
