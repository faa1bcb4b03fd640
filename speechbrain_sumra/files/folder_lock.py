"""One process at a time in an output folder."""

import getpass
import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout
from speechbrain.utils.logger import get_logger

from speechbrain_sumra.files import is_running, write_text

logger = get_logger(__name__)

LOCK = ".lock"
HOLDER = ".lock_holder.json"
# Children of a killed process may outlive it for some seconds, and hold its lock.
ORPHANS_LIVE = 30.0
WORDS = "process {process} of {user} on {machine}, since {since}"


class FolderInUseError(ValueError):
    """Another process is writing into the folder."""


@contextmanager
def holding(
    folder: str | Path, option: str = "--output_folder", patience: float = 0
) -> Iterator[None]:
    """Keep other processes out of a folder for as long as the block runs.

    The system lets go of the lock when a process ends, however it ends, so a folder
    whose holder was killed is free.

    Arguments
    ---------
    folder : str or Path
        The folder; it is made if need be.
    option : str
        What names the folder on the command line, for the message.
    patience : float
        Seconds to wait for another process to leave the folder.

    Raises
    ------
    FolderInUseError
        If another process holds the folder; the message says which one.

    Example
    -------
    >>> folder = getfixture("tmp_path")
    >>> with holding(folder):
    ...     (folder / LOCK).exists()
    True
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / LOCK, is_singleton=False)
    try:
        _acquire(lock, folder, option, patience)
    except NotImplementedError:
        logger.warning(
            "The file system of %s knows no locks: nothing keeps a second run out.",
            folder,
        )
        yield
        return
    try:
        holder = {
            "process": os.getpid(),
            "machine": socket.gethostname(),
            "user": _user(),
            "since": time.strftime("%Y-%m-%d %H:%M:%S"),
        }
        write_text(folder / HOLDER, json.dumps(holder) + "\n")
        yield
    finally:
        (folder / HOLDER).unlink(missing_ok=True)
        lock.release()


def _acquire(lock: FileLock, folder: Path, option: str, patience: float) -> None:
    try:
        lock.acquire(timeout=0)
    except Timeout:
        holder = _holder(folder)
        if _is_dead(holder):
            patience = max(patience, ORPHANS_LIVE)
        if patience:
            logger.info("%s is in use by %s; waiting.", folder, _words(holder))
            with suppress(Timeout):
                lock.acquire(timeout=patience)
                return
        raise FolderInUseError(
            f"{folder} is in use by {_words(holder)}. Wait until it has ended, end it, "
            f"or name another {option}."
        ) from None


def _holder(folder: Path) -> dict | None:
    """What the holder says of itself, if it does."""
    try:
        holder = json.loads((folder / HOLDER).read_text(encoding="utf-8"))
        return {**holder, "words": WORDS.format(**holder)}
    except (OSError, ValueError, TypeError, KeyError):
        return None


def _is_dead(holder: dict | None) -> bool:
    if holder is None or holder["machine"] != socket.gethostname():
        return False
    return not is_running(int(holder["process"]))


def _words(holder: dict | None) -> str:
    return "another process" if holder is None else holder["words"]


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a container may not know its user
        return f"user {os.getuid()}"
