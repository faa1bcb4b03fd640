"""Experiment files: included, overridden, and kept with their run."""

import json
from pathlib import Path

import pytest
from hyperpyyaml import load_hyperpyyaml

from speechbrain_sumra.hparams import (
    HparamsError,
    keep_settings,
    load_hparams,
    read_experiment,
)

HPARAMS = Path(__file__).resolve().parents[2] / "hparams"
EXPERIMENTS = sorted(p for p in HPARAMS.glob("*.yaml") if p.name != "shared.yaml")


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


def test_override_of_nothing_is_an_error(experiment):
    with pytest.raises(HparamsError, match="no setting 'rnk'; did you mean 'rank'"):
        load_hparams(experiment, "rnk: 2")
    with pytest.raises(HparamsError, match="it has seed, rank"):
        load_hparams(experiment, "zzzzz: 2")
    with pytest.raises(HparamsError, match="--name value"):
        load_hparams(experiment, "stray")


def test_missing_files_are_named(tmp_path, experiment):
    with pytest.raises(HparamsError, match="No experiment file .*none.yaml"):
        load_hparams(tmp_path / "none.yaml")
    (tmp_path / "shared.yaml").unlink()
    with pytest.raises(HparamsError, match="No experiment file .*shared.yaml"):
        load_hparams(experiment)


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


@pytest.mark.parametrize("path", EXPERIMENTS, ids=lambda path: path.stem)
def test_shipped_experiments_name_themselves(path):
    text = read_experiment(path)
    assert f"experiment: {path.stem}" in text
    assert len(path.read_text().splitlines()) <= 10
