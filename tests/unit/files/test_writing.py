"""Files appear whole or not at all."""

import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from speechbrain_sumra.files import (
    beside,
    is_running,
    remove_leftovers,
    replacing,
    write_text,
)


def test_a_failed_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "file"
    write_text(path, "old")
    with pytest.raises(RuntimeError), replacing(path) as partial:
        partial.write_text("half")
        raise RuntimeError
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_folders_are_made(tmp_path):
    write_text(tmp_path / "a" / "b" / "file", "text")
    assert (tmp_path / "a" / "b" / "file").read_text() == "text"


@pytest.fixture
def dead():
    """The number of a process that has ended."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def start_of(path):
    """How the names begin that processes of this machine write a path under."""
    start, process, thread = beside(path).name.rsplit(".", 2)
    assert int(process) == os.getpid() and int(thread) == threading.get_native_id()
    return f"{start}."


def test_two_threads_may_write_one_file(tmp_path):
    path, both = tmp_path / "file", threading.Barrier(2)

    def write(text):
        with replacing(path) as partial:
            both.wait(60)
            partial.write_text(text)
            both.wait(60)

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(write, ["one", "other"]))
    assert path.read_text() in ("one", "other")
    assert list(tmp_path.iterdir()) == [path]


def test_what_a_dead_process_was_writing_is_removed(tmp_path, dead):
    path = tmp_path / "file"
    start = start_of(path)
    left = tmp_path / f"{start}{dead}.7"
    left.write_text("half")
    of_an_earlier_version = tmp_path / f"{start}{dead}"
    of_an_earlier_version.write_text("half")
    of_another_file = tmp_path / f".other{start}{dead}"
    of_another_file.write_text("half")
    of_a_live_process = tmp_path / f"{start}{os.getppid()}.7"
    of_a_live_process.write_text("half")
    write_text(path, "all of it")
    assert not left.exists() and not of_an_earlier_version.exists()
    assert of_another_file.exists() and of_a_live_process.exists()


def test_folders_are_removed_too(tmp_path, dead):
    path = tmp_path / "folder"
    start = start_of(path)
    left = tmp_path / f"{start}{dead}.7"
    (left / "new").mkdir(parents=True)
    (left / "new" / "file").write_text("half")
    remove_leftovers(path)
    assert list(tmp_path.iterdir()) == []


def test_who_is_running(dead):
    assert is_running(os.getpid()) and is_running(1)
    assert not is_running(dead) and not is_running(10**30)
