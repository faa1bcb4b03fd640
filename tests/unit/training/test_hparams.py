"""Experiment files: included and overridden."""

import json
from pathlib import Path

import pytest
from hyperpyyaml import load_hyperpyyaml

from speechbrain_sumra.training.hparams import (
    HparamsError,
    load_hparams,
    merge_overrides,
    read_experiment,
    resolve_settings,
)

ROOT = Path(__file__).resolve().parents[3]
HPARAMS = ROOT / "hparams"
SWEEPS = ROOT / "results" / "small" / "sweep"
EXPERIMENTS = sorted(HPARAMS.glob("*_whisper_*.yaml"))


def test_own_keys_replace_and_complete_the_included(experiment):
    expected = {"seed": 2, "rank": 32, "alpha": 32, "name": "small"}
    assert load_hparams(experiment) == expected


def test_overrides_reach_included_keys_and_references(experiment):
    assert load_hparams(experiment, "rank: 2\nseed: 3") == {
        "seed": 3,
        "rank": 2,
        "alpha": 2,
        "name": "small",
    }


def test_a_mapping_may_take_the_place_of_null(tmp_path):
    (tmp_path / "shared.yaml").write_text("start: null\nkwargs: {a: 1}\nrank: 2\n")
    path = tmp_path / "small.yaml"
    path.write_text("include: shared.yaml\nstart: {x: 0.5}\n")
    assert load_hparams(path)["start"] == {"x": 0.5}
    shared = tmp_path / "shared.yaml"
    overrides = "start: {a.b: 0.7, c: 0.3}\nkwargs: {b: 2}"
    found = load_hparams(shared, overrides)
    expected = {"start": {"a.b": 0.7, "c": 0.3}, "kwargs": {"a": 1, "b": 2}, "rank": 2}
    assert found == expected
    assert load_hparams(shared, overrides, only=["start"]) == {"start": found["start"]}
    text, *_ = resolve_settings(shared, overrides)
    assert load_hyperpyyaml(text) == expected


def test_override_of_nothing_is_an_error(experiment):
    with pytest.raises(HparamsError, match="no setting 'rnk'; did you mean 'rank'"):
        load_hparams(experiment, "rnk: 2")
    with pytest.raises(HparamsError, match="it has seed, rank"):
        load_hparams(experiment, "zzzzz: 2")
    with pytest.raises(HparamsError, match="--name value"):
        load_hparams(experiment, "stray")


def test_a_setting_given_twice_is_an_error(experiment):
    twice = "lr: 1\nrank: 2\nlr: 3\n"
    for read in (
        lambda: load_hparams(experiment, twice),
        lambda: merge_overrides(twice),
    ):
        with pytest.raises(HparamsError, match="--lr is given twice"):
            read()


def test_missing_files_are_named(tmp_path, experiment):
    with pytest.raises(HparamsError, match="No experiment file .*none.yaml"):
        load_hparams(tmp_path / "none.yaml")
    (tmp_path / "shared.yaml").unlink()
    with pytest.raises(HparamsError, match="No experiment file .*shared.yaml"):
        load_hparams(experiment)


def test_later_includes_win_and_nested_keys_merge(tmp_path):
    (tmp_path / "a.yaml").write_text("x: 1\ny: 1\nkwargs:\n    r: 1\n    s: 1\n")
    (tmp_path / "b.yaml").write_text("y: 2\nkwargs:\n    r: !ref <x>\n")
    path = tmp_path / "c.yaml"
    path.write_text("include: [a.yaml, b.yaml]\nkwargs:\n    t: 3\n")
    expected = {"x": 5, "y": 2, "kwargs": {"r": 5, "s": 1, "t": 3}}
    assert load_hparams(path, "x: 5") == expected


def test_parts_are_built_alone(tmp_path):
    path = tmp_path / "own.yaml"
    path.write_text(
        "r: 2\nkwargs:\n    r: !ref <r>\nbroken: !new:nothing.at.all\n"
        "layer: !name:torch.nn.Linear\n    in_features: !ref <r>\n"
    )
    parts = load_hparams(path, "r: 3", only=["kwargs", "layer"])
    assert parts["kwargs"] == {"r": 3}
    assert parts["layer"](out_features=1).in_features == 3
    with pytest.raises(HparamsError, match="own.yaml has no setting 'rank'"):
        load_hparams(path, only=["rank"])


def test_overrides_merge():
    merged = merge_overrides("rank: 2\nseed: 3", rank=4, strategy="slice:0")
    assert load_hyperpyyaml(merged) == {"rank": 4, "seed": 3, "strategy": "slice:0"}
    assert load_hyperpyyaml(merge_overrides("", rank=4)) == {"rank": 4}


def test_values_that_are_no_yaml_are_an_error(experiment):
    with pytest.raises(HparamsError, match="needs quotes of its own"):
        load_hparams(experiment, "rank: a: b")


@pytest.mark.parametrize("path", EXPERIMENTS, ids=lambda path: path.stem)
def test_shipped_experiments_name_themselves(path):
    text = read_experiment(path)
    assert f"experiment: {path.stem}" in text
    assert len(path.read_text().splitlines()) <= 10


@pytest.mark.parametrize(
    "chosen",
    [*SWEEPS.glob("*/rank-32/lr.json"), *SWEEPS.glob("*/as_it_is/lr.json")],
    ids=lambda path: path.parts[-3],
)
def test_each_method_has_the_learning_rate_that_its_sweep_chose(chosen):
    text = read_experiment(HPARAMS / f"{chosen.parts[-3]}.yaml")
    (line,) = (line for line in text.splitlines() if line.startswith("lr: "))
    assert float(line.removeprefix("lr: ")) == json.loads(chosen.read_text())["lr"]
