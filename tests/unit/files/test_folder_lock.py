"""One process at a time in a folder; a dead one is nobody."""

import json
import multiprocessing
import os
import signal

import pytest

from speechbrain_sumra.files.folder_lock import HOLDER, FolderInUseError, holding

FORK = multiprocessing.get_context("fork")  # it has imported everything


def hold(folder, ready):
    """Hold a folder until killed."""
    with holding(folder):
        ready.set()
        signal.pause()


@pytest.fixture
def holder(tmp_path):
    """A process that holds the folder."""
    ready = FORK.Event()
    process = FORK.Process(target=hold, args=(tmp_path, ready))
    process.start()
    assert ready.wait(60)
    yield process
    process.kill()
    process.join()


def test_the_second_is_refused_by_name(tmp_path, holder):
    with (
        pytest.raises(FolderInUseError, match=f"process {holder.pid} of .*--there"),
        holding(tmp_path, "--there"),
    ):
        pass


def test_the_dead_hold_nothing(tmp_path, holder):
    holder.kill()
    holder.join()
    assert (tmp_path / HOLDER).exists()
    with holding(tmp_path):
        record = json.loads((tmp_path / HOLDER).read_text())
        assert record["process"] == os.getpid()
    assert not (tmp_path / HOLDER).exists()


def test_patience(tmp_path, holder):
    os.kill(holder.pid, signal.SIGTERM)
    with holding(tmp_path, patience=60):
        pass


@pytest.mark.parametrize("record", ["", "[]", "3", '{"process": 1}'])
def test_a_damaged_record_is_no_obstacle(tmp_path, holder, record):
    (tmp_path / HOLDER).write_text(record)
    with pytest.raises(FolderInUseError, match="in use by"), holding(tmp_path):
        pass


def test_a_failure_lets_go(tmp_path):
    with pytest.raises(RuntimeError), holding(tmp_path / "new"):
        raise RuntimeError
    with holding(tmp_path / "new"):
        pass
