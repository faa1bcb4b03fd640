"""Checkpoints are whole or not there, and bring random states back."""

import random
import re

import pytest
import torch
from speechbrain.utils import checkpoints

from speechbrain_sumra.training.checkpoint import (
    Checkpointer,
    CheckpointError,
    RandomState,
)


@pytest.fixture
def layer():
    return torch.nn.Linear(2, 2)


@pytest.fixture
def checkpointer(layer, tmp_path):
    return Checkpointer(tmp_path, {"layer": layer, "random": RandomState()})


class Full:
    """Cannot be saved."""


def test_several_in_one_second(checkpointer, tmp_path):
    saved = [checkpointer.save_checkpoint({"WER": wer}) for wer in (3.0, 1.0, 2.0)]
    assert len({checkpoint.path for checkpoint in saved}) == 3
    found = checkpointer.find_checkpoint(min_key="WER")
    assert found == saved[1]
    checkpointer.save_and_keep_only(meta={"WER": 5.0}, min_keys=["WER"])
    # The best one and the last one.
    metas = sorted(c.meta["WER"] for c in checkpointer.list_checkpoints())
    assert metas == [1.0, 5.0]
    assert not (tmp_path / "unfinished").exists()


def test_a_failed_save_leaves_no_checkpoint(checkpointer):
    first = checkpointer.save_checkpoint()
    checkpointer.add_recoverable("full", Full(), optional_load=True)
    with pytest.raises(RuntimeError):
        checkpointer.save_checkpoint()
    assert checkpointer.list_checkpoints() == [first]
    del checkpointer.recoverables["full"]
    assert checkpointer.save_checkpoint().path.parent == first.path.parent


def test_an_unfinished_deletion_is_no_checkpoint(checkpointer, caplog):
    old = checkpointer.save_checkpoint()
    new = checkpointer.save_checkpoint()
    new.paramfiles["layer"].unlink()
    assert checkpointer.recover_if_possible() == old
    assert f"{new.path} lacks files" in caplog.text


@pytest.mark.parametrize(
    "name", ["layer.ckpt", "random.ckpt", "CKPT.yaml", "digests.json"]
)
@pytest.mark.parametrize("damage", ["empty", "cut", "a bit"])
def test_damage_is_named(checkpointer, name, damage):
    saved = checkpointer.save_checkpoint({"WER": 1.0})
    content = bytearray((saved.path / name).read_bytes())
    if damage == "a bit":
        content[len(content) // 3] ^= 1
    else:
        del content[0 if damage == "empty" else len(content) // 2 :]
    (saved.path / name).write_bytes(content)
    with pytest.raises(CheckpointError, match=re.escape(str(saved.path))):
        checkpointer.recover_if_possible()


def test_speechbrain_reads_them(checkpointer, layer, tmp_path):
    checkpointer.save_checkpoint({"WER": 1.0})
    theirs = checkpoints.Checkpointer(tmp_path, {"layer": torch.nn.Linear(2, 2)})
    theirs.recover_if_possible(min_key="WER")
    assert torch.equal(theirs.recoverables["layer"].weight, layer.weight)


def test_draws_continue(checkpointer):
    torch.manual_seed(1)
    random.seed(1)
    checkpointer.save_checkpoint()
    first = torch.rand(3).tolist(), random.random()
    torch.manual_seed(2)
    checkpointer.recover_if_possible()
    assert (torch.rand(3).tolist(), random.random()) == first
