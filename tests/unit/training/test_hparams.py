"""Experiment files: included, overridden, and kept with their run."""

import json
from pathlib import Path

import pytest
from hyperpyyaml import load_hyperpyyaml

from speechbrain_sumra.training.hparams import (
    HparamsError,
    keep_inputs,
    keep_settings,
    load_hparams,
    merge_overrides,
    read_experiment,
)

ROOT = Path(__file__).resolve().parents[3]
HPARAMS = ROOT / "hparams"
SWEEPS = ROOT / "results" / "small" / "sweep"
EXPERIMENTS = sorted(HPARAMS.glob("*_whisper_*.yaml"))


@pytest.fixture
def experiment(tmp_path):
    (tmp_path / "shared.yaml").write_text("seed: 1\nrank: 32\nalpha: !ref <rank>\n")
    path = tmp_path / "small.yaml"
    path.write_text("include: shared.yaml\nseed: 2\nname: small\n")
    return path


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
    keep_settings(shared, overrides, tmp_path)
    assert load_hparams(tmp_path / "hyperparams.yaml") == expected


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


def test_nested_settings_are_kept_too(tmp_path):
    path, folder = tmp_path / "own.yaml", tmp_path / "run"
    folder.mkdir()
    path.write_text("kwargs:\n    r: 2\nloss: !name:torch.nn.Linear\n")
    keep_settings(path, "", folder)
    path.write_text("kwargs:\n    r: 3\nloss: !name:torch.nn.Linear\n")
    with pytest.raises(HparamsError, match="kwargs: {'r': 2} there, {'r': 3} now"):
        keep_settings(path, "", folder)


def test_kept_settings_can_be_run_again_and_not_mixed(experiment, tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    keep_settings(experiment, "rank: 2", folder)
    kept = load_hyperpyyaml((folder / "hyperparams.yaml").read_text())
    assert kept == load_hparams(experiment, "rank: 2")
    assert json.loads((folder / "settings.json").read_text())["alpha"] == 2

    keep_settings(experiment, "rank: 2", folder)
    keep_settings(experiment, "rank: 2\nseed: 9", folder, ignored=("seed",))
    with pytest.raises(HparamsError, match="alpha: 2 there, 4 now; rank: 2 there"):
        keep_settings(experiment, "rank: 4\nseed: 9", folder)
    kept = json.loads((folder / "settings.json").read_text())
    (folder / "settings.json").write_text(json.dumps({**kept, "old": 1}))
    with pytest.raises(HparamsError, match="old: 1 there, no such setting now"):
        keep_settings(experiment, "rank: 2", folder)


def test_objects_are_compared_but_for_places_in_them(tmp_path):
    path, folder = tmp_path / "own.yaml", tmp_path / "run"
    folder.mkdir()
    path.write_text(
        "place: here\nlr: 1.0\nopt: !name:torch.optim.SGD\n    lr: !ref <lr>\n"
        "log: !new:pathlib.Path\n    - !ref <place>/log\n"
    )
    keep_settings(path, "", folder, ignored=("place",))
    keep_settings(path, "place: there", folder, ignored=("place",))
    for other in ("opt: !name:torch.optim.Adam", "log: !new:pathlib.Path [elsewhere]"):
        name = other.partition(":")[0]
        with pytest.raises(HparamsError, match=f"{name}: .* there, .* now"):
            keep_settings(path, other, folder, ignored=("place",))
    # A run of an earlier version has kept none.
    (folder / "settings.json").write_text('{"place": "here", "lr": 1.0}')
    keep_settings(path, "", folder, ignored=("place",))


def test_values_that_are_no_yaml_are_an_error(experiment):
    with pytest.raises(HparamsError, match="needs quotes of its own"):
        load_hparams(experiment, "rank: a: b")


def test_a_run_does_not_go_on_with_other_inputs(tmp_path):
    keep_inputs(tmp_path, data_hash="1", basis_fingerprint=None)
    keep_inputs(tmp_path, data_hash="1", basis_fingerprint=None)
    with pytest.raises(HparamsError, match="other inputs .basis_fingerprint: None the"):
        keep_inputs(tmp_path, data_hash="1", basis_fingerprint="2")
    (tmp_path / "inputs.json").write_text("{")
    with pytest.raises(HparamsError, match="inputs.json is damaged"):
        keep_inputs(tmp_path, data_hash="1", basis_fingerprint=None)


@pytest.mark.parametrize("damage", ["", "null", "{", "\x00"])
def test_damaged_settings_are_not_taken_for_the_same(experiment, tmp_path, damage):
    (tmp_path / "settings.json").write_text(damage)
    with pytest.raises(HparamsError, match="settings.json is damaged"):
        keep_settings(experiment, "", tmp_path)


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
