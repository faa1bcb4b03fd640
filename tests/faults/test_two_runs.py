"""Two processes at once in the same places."""

import time

import pytest
from processes import finish, start, succeed
from recipe import read_json
from test_kill import assert_same_adapter


def wait_for(path, process):
    """Until a running process has written a file, or more into one that was there."""
    before = path.stat().st_size if path.exists() else 0
    while not path.exists() or path.stat().st_size == before:
        assert process.is_alive()
        time.sleep(0.01)


@pytest.mark.fault(
    fault="two runs into one output folder",
    provoked="a second one while the first trains; then the first is killed",
    result="the second is refused in one line that names the process, user and "
    "machine; when the first is dead, the next one goes on",
)
def test_the_same_output_folder(arguments, tmp_path):
    log, other, run = tmp_path / "log", tmp_path / "other", tmp_path / "run"
    line = arguments(number_of_epochs=8, score_unadapted=False)
    first = start("train", line, log)
    wait_for(run / "train_log.txt", first)
    code, text = finish("train", line, other)
    assert code == 1
    assert f"{run} is in use by process {first.pid} of " in text
    assert "Traceback" not in text
    assert first.is_alive()
    first.kill()
    first.join()
    succeed("train", line, other)


@pytest.mark.fault(
    fault="several runs on the same data, features, basis and durations",
    provoked="three at once with empty folders",
    result="each ends as it would alone",
)
def test_the_same_features(arguments, tmp_path):
    logs = [tmp_path / f"log{i}" for i in range(3)]
    folders = [tmp_path / f"run{i}" for i in range(3)]
    processes = [
        start("train", arguments(output_folder=folder), log)
        for folder, log in zip(folders, logs, strict=True)
    ]
    for process, log in zip(processes, logs, strict=True):
        process.join(300)
        assert process.exitcode == 0, log.read_text()[-3000:]
    for folder in folders[1:]:
        assert_same_adapter(folder, folders[0])
    hashes = {read_json(folder / "summary.json")["data_hash"] for folder in folders}
    assert len(hashes) == 1


@pytest.mark.fault(
    fault="two preparations into one folder",
    provoked="two at once, with different settings",
    result="the second waits; the manifests are of one of them, and whole",
)
def test_the_same_manifests(synthetic_corpus, tmp_path):
    folder, logs = tmp_path / "manifests", [tmp_path / "a", tmp_path / "b"]
    line = ["--data_folder", synthetic_corpus, "--locale", "eo", "--save_folder"]
    processes = [
        start("prepare", [*line, folder, "--train_hours", hours], log)
        for hours, log in zip((1, 2), logs, strict=True)
    ]
    for process, log in zip(processes, logs, strict=True):
        process.join(60)
        assert process.exitcode == 0, log.read_text()
    hours = read_json(folder / "manifest_report.json")["settings"]["train_hours"]
    # What is there is finished for one of them.
    again = finish("prepare", [*line, folder, "--train_hours", hours], logs[0])
    assert again[0] == 0 and "already holds the manifests" in again[1]
