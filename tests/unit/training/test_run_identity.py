"""A run goes on with the same settings and inputs alone."""

import json

import pytest
from hyperpyyaml import load_hyperpyyaml

from speechbrain_sumra.training.hparams import HparamsError, load_hparams
from speechbrain_sumra.training.run_identity import keep_inputs, keep_settings


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
    path.write_text(path.read_text() + "kwargs: {n: 1}\nn: !ref <kwargs[n]>\n")
    (folder / "settings.json").unlink()
    keep_settings(path, "", folder, ignored=("place", "kwargs"))
    # A run of an earlier version has kept none.
    (folder / "settings.json").write_text('{"place": "here", "lr": 1.0, "n": 1}')
    keep_settings(path, "", folder, ignored=("place", "kwargs"))


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
