"""Files and folders that appear whole or not at all, whenever the machine stops."""

import os
import re
import shutil
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(path: str | Path, durable: bool = True) -> Iterator[Path]:
    """Write beside a file, then put what was written in its place.

    A reader sees the old file or the new one, never a part. If the block
    fails, the old file stays and what was written goes; what a killed process
    left is removed by the next one that writes the file.

    Arguments
    ---------
    path : str or Path
        The file to write; its folder is made if need be.
    durable : bool
        Wait until the file is on the disk, so that not even a power failure
        leaves a part of it. False: for what can be made again and is checked
        when it is read.

    Yields
    ------
    Path
        Where to write.

    Example
    -------
    >>> path = getfixture("tmp_path") / "note.txt"
    >>> with replacing(path) as partial:
    ...     _ = partial.write_text("all of it")
    >>> [file.name for file in path.parent.iterdir()]
    ['note.txt']
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    remove_leftovers(path)
    partial = beside(path)
    try:
        yield partial
        if durable:
            flush(partial)
        os.replace(partial, path)
        if durable:
            flush(path.parent)
    finally:
        partial.unlink(missing_ok=True)


def write_text(path: str | Path, text: str) -> None:
    """Write a text file, all or nothing.

    Arguments
    ---------
    path : str or Path
        The file to write.
    text : str
        Its contents.
    """
    with replacing(path) as partial:
        partial.write_text(text, encoding="utf-8")


def beside(path: Path) -> Path:
    """Where this thread writes what will be moved to a path.

    Arguments
    ---------
    path : Path
        A file or folder.

    Returns
    -------
    Path
        A hidden one in the same folder, which names the machine, the process and
        the thread.
    """
    return path.with_name(f"{_start(path)}{os.getpid()}.{threading.get_native_id()}")


def remove_leftovers(path: Path) -> None:
    """Remove what killed processes of this machine were writing for a path.

    Arguments
    ---------
    path : Path
        The file or folder that they would have made.
    """
    start = _start(path)
    with os.scandir(path.parent) as entries:
        names = [entry.name for entry in entries if entry.name.startswith(start)]
    for name in names:
        # An earlier version named no thread.
        found = re.fullmatch(r"(\d+)(\.\d+)?", name.removeprefix(start), re.ASCII)
        if found and not is_running(int(found[1])):
            remove(path.with_name(name))


def remove(path: Path) -> None:
    """Remove a file or a folder with all that is in it, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def is_running(process: int) -> bool:
    """Whether a process of this machine is alive.

    Example
    -------
    >>> is_running(os.getpid())
    True
    """
    if os.name != "posix":
        return True  # there, signal 0 is no question
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        pass
    return True


def flush(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk."""
    if path.is_dir() and os.name != "posix":
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _start(path: Path) -> str:
    return f".{path.name}.{socket.gethostname()}."
