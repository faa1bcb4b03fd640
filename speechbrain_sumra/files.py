"""Files that appear whole or not at all."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Write beside a file, then put what was written in its place.

    A reader sees the old file or the new one, never a part. If the block
    fails, the old file stays and what was written goes.

    Arguments
    ---------
    path : str or Path
        The file to write; its folder is made if need be.

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
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        yield partial
        os.replace(partial, path)
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
