"""The machine fails a run: one line says what to do, and the run can go on."""

import contextlib
import functools
import os
import random
import shutil
import signal
import time

import psutil
import pytest
from processes import few_files, finish, no_more_memory, own_disk, start, succeed
from recipe import read_json
from test_kill import assert_same_adapter
from test_two_runs import wait_for

from speechbrain_sumra.training import failures
from speechbrain_sumra.training.stop_request import STOPPED


def last_line(path):
    lines = path.read_text(encoding="utf-8").splitlines()
    return lines[-1] if lines else ""


def assert_one_clear_error(code, text, what_to_do):
    assert code == 1, text[-3000:]
    assert what_to_do in text
    assert "Traceback" not in text


def assert_goes_on(arguments, tmp_path, whole):
    text = succeed("train", arguments(), tmp_path / "log")
    assert_same_adapter(tmp_path / "run", whole)
    return text


def worker_at_work(process):
    """A data loading process that has sent a batch: a thread of it does that."""
    parent = psutil.Process(process.pid)
    command = parent.cmdline()
    while process.is_alive():
        with contextlib.suppress(psutil.NoSuchProcess):
            for child in parent.children():
                if child.num_threads() > 1 and child.cmdline() == command:
                    return child
    raise AssertionError("It ended before a data loading process had sent a batch.")


@pytest.mark.fault(
    fault="disk full in the output folder",
    provoked="a file system of 300 kB there",
    result="exit code 1, one line, and to make room; then the same command goes on and "
    "ends with the same adapter",
)
def test_full_output_folder(arguments, tmp_path, whole, mounts, log):
    run = tmp_path / "run"
    disk = functools.partial(own_disk, run, "size=300k", tmp_path / "copy")
    code, text = finish("train", arguments(), log, disk)
    assert_one_clear_error(code, text, failures.FULL)
    shutil.rmtree(run)
    (tmp_path / "copy").rename(run)
    assert_goes_on(arguments, tmp_path, whole)


@pytest.mark.fault(
    fault="disk full where encoder states are kept",
    provoked="a file system of 60 kB there",
    result="a warning; the run goes on without keeping them, to the same adapter",
)
def test_full_feature_folder(arguments, settings, tmp_path, whole, mounts, log):
    features = settings["runs_folder"] / "features"
    disk = functools.partial(own_disk, features, "size=60k")
    text = succeed("train", arguments(), log, disk)
    assert "Make room" in text
    assert_same_adapter(tmp_path / "run", whole)


@pytest.mark.fault(
    fault="output folder that cannot be written",
    provoked="a file system mounted read-only there",
    result="exit code 1, one line, and to look at its owner and mount",
)
def test_read_only_output_folder(arguments, tmp_path, mounts, log):
    disk = functools.partial(own_disk, tmp_path / "run", "ro")
    code, text = finish("train", arguments(), log, disk)
    assert_one_clear_error(code, text, failures.WRITE)


@pytest.mark.fault(
    fault="too many open files",
    provoked="a limit of two more than there are at the start",
    result="exit code 1, one line, and to raise the limit; then the run goes on",
)
def test_few_open_files(arguments, tmp_path, whole, log):
    limit = functools.partial(few_files, 2)
    code, text = finish("train", arguments(), log, limit)
    assert_one_clear_error(code, text, failures.HANDLES)
    assert_goes_on(arguments, tmp_path, whole)


@pytest.mark.fault(
    fault="out of memory in a batch",
    provoked="a run that trains gets no more memory than it has",
    result="exit code 1, one line, and what to lower; then the run goes on",
)
def test_no_more_memory(arguments, tmp_path, log):
    line = arguments(number_of_epochs=6, score_unadapted=False)
    process = start("train", line, log)
    wait_for(tmp_path / "run" / "training.png", process)
    no_more_memory(process)
    process.join(60)
    text = log.read_text()
    assert_one_clear_error(process.exitcode, text, failures.MEMORY)
    succeed("train", line, log)


@pytest.mark.fault(
    fault="loss that is not finite",
    provoked="a learning rate of 1e30",
    result="exit code 1, one line, and to lower the learning rate; the checkpoints "
    "from before are kept",
)
def test_loss_is_not_finite(arguments, tmp_path, log):
    line = arguments(lr=1e30, score_unadapted=False)
    code, text = finish("train", line, log)
    assert_one_clear_error(code, text, "with a lower --lr")


@pytest.mark.fault(
    fault="a lost data loading process",
    provoked="SIGKILL of one of two of them",
    result="exit code 1, one line, and to lower their number; then the run goes on to "
    "the same adapter",
)
def test_lost_worker(arguments, tmp_path, whole, log):
    process = start("train", arguments(num_workers=2), log)
    worker_at_work(process).kill()
    process.join(300)
    assert_one_clear_error(process.exitcode, log.read_text(), failures.WORKER)
    line = functools.partial(arguments, num_workers=2)
    assert_goes_on(line, tmp_path, whole)


@pytest.mark.fault(
    fault="a lost process of several that train together",
    provoked="SIGKILL of one of two that torchrun started",
    result="torchrun ends the other; the same command goes on from the last validation",
)
def test_lost_rank(arguments, tmp_path, log):
    line = arguments(distributed_backend="gloo", score_unadapted=False)
    process = start("torchrun", line, log)
    wait_for(tmp_path / "run" / "train_log.txt", process)
    ranks = psutil.Process(process.pid).children()
    ranks[-1].kill()
    process.join(120)
    assert process.exitcode not in (None, 0)
    assert psutil.wait_procs(ranks, timeout=10)[1] == []
    before = (tmp_path / "run" / "train_log.txt").read_text().splitlines()
    succeed("torchrun", line, log)
    after = (tmp_path / "run" / "train_log.txt").read_text().splitlines()
    # The last validation may have been logged and not yet saved.
    assert len(after) in (6, 7) and after[: len(before)] == before
    assert len(read_json(tmp_path / "run" / "summary.json")["validations"]) == 6


@pytest.mark.fault(
    fault="SIGTERM or SIGUSR1 from a scheduler",
    provoked="either, at random times, to the process or to all of its group",
    result=f"exit code {STOPPED}; in training the step is saved first; the same "
    "command goes on to the same adapter",
)
@pytest.mark.parametrize("to_group", [False, True])
def test_a_scheduler_stops_it(arguments, tmp_path, points, to_group, log):
    settings = {"batch_size": 1, "number_of_epochs": 2, "num_workers": int(to_group)}
    undisturbed = tmp_path / "undisturbed"
    begin = time.monotonic()
    line = arguments(**settings, output_folder=undisturbed)
    succeed("train", line, log)
    longest, times = time.monotonic() - begin, random.Random(points)
    for _ in range(max(3, points // 5)):
        process = start("train", arguments(**settings), log)
        wait_for(tmp_path / "run" / "log.txt", process)
        process.join(times.uniform(0, longest))
        if process.is_alive():
            name = times.choice([signal.SIGTERM, signal.SIGUSR1])
            send = os.killpg if to_group else os.kill
            send(process.pid, name)
            process.join(60)
        assert process.exitcode in (STOPPED, 0), log.read_text()[-3000:]
    succeed("train", arguments(**settings), log)
    assert_same_adapter(tmp_path / "run", undisturbed)
    folders = (tmp_path / "run", undisturbed)
    one, other = (read_json(folder / "summary.json") for folder in folders)
    assert one["validations"] == other["validations"]


@pytest.mark.fault(
    fault="SIGTERM in the middle of an eighth of an epoch",
    provoked="after the first validation of a run of single-utterance batches",
    result="the checkpoint that is left is of that step, not of the last validation",
)
def test_the_step_is_saved(arguments, tmp_path, log):
    settings = {"batch_size": 1, "number_of_epochs": 100, "validations_per_epoch": 1}
    saved = []
    while not saved:
        # In a validation it stops at once and saves nothing more: then again.
        process = start("train", arguments(**settings, score_unadapted=False), log)
        wait_for(tmp_path / "run" / "train_log.txt", process)
        while "Going into epoch" not in last_line(tmp_path / "run" / "log.txt"):
            assert process.is_alive()
        os.kill(process.pid, signal.SIGTERM)
        process.join(60)
        assert process.exitcode == STOPPED
        metas = (tmp_path / "run" / "save").glob("CKPT*/CKPT.yaml")
        saved = [path for path in metas if "intra" in path.read_text()]
    assert "Stopped as requested" in log.read_text()


@pytest.mark.fault(
    fault="Ctrl+C",
    provoked="SIGINT while it trains",
    result="exit code 130 and one line; the same command goes on",
)
def test_ctrl_c(arguments, tmp_path, log):
    settings = {"number_of_epochs": 40, "score_unadapted": False}
    process = start("train", arguments(**settings), log)
    wait_for(tmp_path / "run" / "train_log.txt", process)
    os.kill(process.pid, signal.SIGINT)
    process.join(60)
    assert process.exitcode == 130
    text = log.read_text()
    assert "Interrupted. Start again to go on." in text and "Traceback" not in text


CAN_BE_MADE_AGAIN = (
    "run/unadapted.json",
    "run/manifests/train.csv",
    "run/manifests/manifest_report.json",
    "run/train_log.txt",
    "run/hyperparams.yaml",
    "runs/durations/*.csv",
    "runs/features/*/*/*.safetensors",
)
CANNOT = ("run/settings.json", "runs/basis/*.safetensors", "run/save/*/whisper.ckpt")


@pytest.mark.fault(
    fault="damaged files of a run",
    provoked=f"{', '.join(CAN_BE_MADE_AGAIN)}: all cut in half",
    result="they are made again; the same command ends with the same adapter",
)
def test_damage_that_can_be_mended(arguments, tmp_path, whole, log):
    shutil.copytree(whole.parent, tmp_path, dirs_exist_ok=True)
    for pattern in CAN_BE_MADE_AGAIN:
        for file in tmp_path.glob(pattern):
            file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    text = assert_goes_on(arguments, tmp_path, whole)
    assert "unadapted.json is damaged" in text


@pytest.mark.fault(
    fault="damaged files of a run that cannot be made again",
    provoked=f"{', '.join(CANNOT)}: each cut in half",
    result="exit code 1, which file it is, and what to remove; then the run goes on",
)
@pytest.mark.parametrize("pattern", CANNOT)
def test_damage_that_is_named(arguments, tmp_path, whole, log, pattern):
    shutil.copytree(whole.parent, tmp_path, dirs_exist_ok=True)
    files = list(tmp_path.glob(pattern))
    for file in files:
        file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    code, text = finish("train", arguments(), log)
    assert any(str(file) in text for file in files)
    assert_one_clear_error(code, text, "damaged")
    for file in files:
        shutil.rmtree(file.parent) if file.suffix == ".ckpt" else file.unlink()
    assert_goes_on(arguments, tmp_path, whole)
