"""The adapters of a folder, by language."""

from collections.abc import Collection
from pathlib import Path

from speechbrain_sumra.adapter_file import AdapterFileError, read_metadata

RUN_FILE = "adapter.safetensors"  # of a finished run


def find_adapters(
    path: str | Path, locales: Collection[str] | None = None
) -> dict[str, Path]:
    """The adapter files at a place, by the locale that each names.

    Arguments
    ---------
    path : str or Path
        A file, the folder of a run (of its own adapter: an average's members do not
        count), or a folder of such folders or files.
    locales : collection of str
        Those that are wanted: of others there may be several, of which the first is
        taken. Default: all.

    Returns
    -------
    dict of str to Path

    Raises
    ------
    AdapterFileError
        If there is none, or two name the same wanted locale.
    """
    path = Path(path)
    if (path / RUN_FILE).exists():
        path /= RUN_FILE
    files = _adapters_in(path) if path.is_dir() else [path]
    found: dict[str, Path] = {}
    for file in files:
        try:
            locale = read_metadata(file).get("locale") or file.stem
        except AdapterFileError:
            # Bases and encoder states have the same ending.
            if file == path:
                raise
            continue
        if locale in found and (locales is None or locale in locales):
            raise AdapterFileError(
                f"Two adapters of {locale!r}: {found[locale]} and {file}. Name one of "
                "them, or add them to a Bank under names of your own."
            )
        found.setdefault(locale, file)
    if not found:
        raise AdapterFileError(f"No adapter file in {path}.")
    return found


def _adapters_in(folder: Path) -> list[Path]:
    """Files that may be adapters, but for runs below the folder of another run."""
    files = sorted(folder.rglob("*.safetensors"))
    runs = {file.parent for file in files if file.name == RUN_FILE}
    return [
        file
        for file in files
        if file.name != RUN_FILE or runs.isdisjoint(file.parent.parents)
    ]
