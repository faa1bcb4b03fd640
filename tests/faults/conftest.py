"""What tests of faults share, and the record of what they tried."""

import json
import os
import sys
from pathlib import Path

import pytest
from hypothesis import settings
from processes import can_mount, succeed
from recipe import command, short_run
from speechbrain.utils.importutils import LazyModule

# Times that each kind of process is killed; `make faults` takes more.
POINTS = int(os.environ.get("FAULT_POINTS", "10"))
RECORD = "FAULT_RECORD"  # names the file that `make faults` reads

# The same inputs each time, so that a change answers for itself; `make faults` draws
# others.
settings.register_profile("repeatable", derandomize=True)
if RECORD not in os.environ:
    settings.load_profile("repeatable")


@pytest.fixture(scope="session")
def points():
    """How many times to kill."""
    return POINTS


@pytest.fixture
def mounts():
    """Skips where a process cannot have a file system of its own."""
    if not can_mount():
        pytest.skip("no mounts of one's own: unshare -Urm is not allowed here")


def command_line(**settings):
    """That of train.py."""
    return [*command(**settings), "--noprogressbar", "--device=cpu"]


@pytest.fixture
def log(tmp_path):
    """Where a program's output goes."""
    return tmp_path / "log"


@pytest.fixture
def settings(tiny_whisper, synthetic_corpus, tmp_path):
    """Settings of a run of seconds on a tiny Whisper."""
    return {**short_run(tiny_whisper, synthetic_corpus, tmp_path), "batch_size": 2}


@pytest.fixture
def arguments(settings):
    """The command line of train.py, with some settings changed."""

    def make(**changes):
        return command_line(**{**settings, **changes})

    return make


@pytest.fixture(scope="module")
def whole(tiny_whisper, synthetic_corpus, tmp_path_factory):
    """The folder of a run that nothing disturbed."""
    folder = tmp_path_factory.mktemp("whole")
    settings = {**short_run(tiny_whisper, synthetic_corpus, folder), "batch_size": 2}
    succeed("train", command_line(**settings), folder / "log")
    return folder / "run"


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems():
    """Hypothesis asks modules for their files; SpeechBrain's lazy ones import then."""
    for module in list(sys.modules.values()):
        if isinstance(module, LazyModule):
            vars(module).setdefault("__file__", None)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    """Note how each fault was met, for the table of docs/reliability.md."""
    outcome = yield
    marker, record = item.get_closest_marker("fault"), os.environ.get(RECORD)
    report = outcome.get_result()
    if record and marker and (report.when == "call" or report.skipped):
        line = {**marker.kwargs, "test": item.nodeid, "outcome": report.outcome}
        with open(Path(record), "a", encoding="utf-8") as file:
            file.write(json.dumps({**line, "seconds": report.duration}) + "\n")
