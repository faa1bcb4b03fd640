"""The project's programs in processes of their own, to be killed and starved.

They are forked from one process that has imported everything, so that a start takes
no longer than the program itself.
"""

import ctypes
import multiprocessing
import os
import resource
import shutil
import signal
import subprocess
import sys
from contextlib import contextmanager, nullcontext
from functools import cache
from multiprocessing import forkserver
from pathlib import Path

import common_voice_prepare
import compute_features
import train
from command import run
from recipe import NO_ENV_LOG, ROOT, TRAIN
from torch.distributed import run as torchrun

from speechbrain_sumra import cli

TWO_PROCESSES = ("--standalone", "--nproc_per_node=2")
PROGRAMS = {
    "train": lambda: run(train.main, train.__doc__),
    "features": lambda: run(compute_features.main, compute_features.__doc__),
    "prepare": lambda: common_voice_prepare.main(sys.argv[1:]),
    "torchrun": lambda: torchrun.main([*TWO_PROCESSES, str(TRAIN), *sys.argv[1:]]),
    "sumra": lambda: sys.exit(cli.main(sys.argv[1:])),
}
FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(["processes"])
LIMIT = 300  # seconds; nothing here takes that long


def start(program, arguments, log, around=nullcontext):
    """Start a program; its output is appended to the log.

    ``around`` makes a context manager that the program runs in.
    """
    _start_server()
    arguments = [str(argument) for argument in arguments]
    process = FORKS.Process(target=_run, args=(program, arguments, str(log), around))
    process.start()
    return process


@cache
def _start_server():
    """The process to fork from. It imports from PYTHONPATH, not from our sys.path."""
    before = os.environ.get("PYTHONPATH", "")
    os.environ["PYTHONPATH"] = os.pathsep.join([*sys.path, before])
    try:
        forkserver.ensure_running()
    finally:
        os.environ["PYTHONPATH"] = before


def finish(program, arguments, log, around=nullcontext):
    """Run a program to its end; exit code and what it has written."""
    before = log.stat().st_size if log.exists() else 0
    process = start(program, arguments, log, around)
    process.join(LIMIT)
    if process.is_alive():
        process.kill()
        process.join()
    return process.exitcode, log.read_bytes()[before:].decode()


def succeed(program, arguments, log, around=nullcontext):
    """As ``finish``, of what must end well; what it has written."""
    code, text = finish(program, arguments, log, around)
    assert code == 0, text[-3000:]
    return text


def _run(program, arguments, log, around):
    multiprocessing.set_start_method("fork", force=True)  # as it would be
    # A shell that starts tests in the background has Ctrl+C ignored.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.setpgid(0, 0)  # so that a signal can be sent to all of its processes
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    os.chdir(ROOT)
    sys.argv = [program, *arguments]
    setattr(*NO_ENV_LOG)
    with around():
        PROGRAMS[program]()


@contextmanager
def few_files(number):
    """At most so many open files more than there are."""
    limit = number + len(os.listdir("/proc/self/fd"))
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
    yield


def no_more_memory(process):
    """From here on, a running process gets no more memory than it has."""
    resource.prlimit(process.pid, resource.RLIMIT_AS, (2**20, 2**20))


@contextmanager
def own_disk(folder, options, copy=None):
    """A file system of its own at a folder, which nobody else sees.

    ``options`` are those of mount, e.g. "size=1m" or "ro". What is in it in the end
    is put into the folder ``copy``.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    _own_mounts()
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "none", folder], check=True)
    try:
        yield
    finally:
        if copy is not None:
            shutil.copytree(folder, copy)


def can_mount():
    """Whether this machine lets a process have mounts of its own."""
    done = subprocess.run(
        ["unshare", "-Urm", "mount", "-t", "tmpfs", "none", "/mnt"],
        capture_output=True,
        check=False,
    )
    return done.returncode == 0


def _own_mounts():
    """As ``unshare --user --map-root-user --mount``."""
    user, group = os.getuid(), os.getgid()
    new_user, new_mounts = 0x10000000, 0x00020000
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(new_user | new_mounts):
        raise OSError(ctypes.get_errno(), "unshare")
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"0 {user} 1")
    Path("/proc/self/gid_map").write_text(f"0 {group} 1")
