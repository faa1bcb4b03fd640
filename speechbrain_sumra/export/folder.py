"""Exported folders: whole or not there, with a note of what they hold."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from speechbrain_sumra.adapted import AdaptedWhisper
from speechbrain_sumra.adapter_file import describe
from speechbrain_sumra.export.language import new_locale
from speechbrain_sumra.files import beside, flush, remove, remove_leftovers

RECORD = "sumra_export.json"


@contextmanager
def new_folder(folder: str | Path) -> Iterator[Path]:
    """Write beside a folder that is not there, then give it its name.

    Arguments
    ---------
    folder : str or Path
        The folder to make; an empty one is taken too.

    Yields
    ------
    Path
        An empty folder to write to. The folder that it lies in is removed in
        the end, with whatever else is in it.

    Raises
    ------
    FileExistsError
        If there is something at ``folder``.

    Example
    -------
    >>> folder = getfixture("tmp_path") / "exported"
    >>> with new_folder(folder) as new:
    ...     _ = (new / "model.bin").write_text("weights")
    >>> [path.name for path in folder.iterdir()]
    ['model.bin']
    """
    folder = Path(folder)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise FileExistsError(
            f"'{folder}' is there already and is left as it is: name a folder that "
            "is new or empty."
        )
    folder.parent.mkdir(parents=True, exist_ok=True)
    remove_leftovers(folder)
    temporary = beside(folder)
    remove(temporary)
    new = temporary / "new"
    new.mkdir(parents=True)
    try:
        yield new
        for file in new.rglob("*"):
            if file.is_file():  # safetensors makes files that only their owner reads
                file.chmod(new.stat().st_mode & 0o666)
                flush(file)
        os.replace(new, folder)
        flush(folder.parent)
    finally:
        remove(temporary)


def facts_of(metadata: dict) -> dict:
    """What a model card tells of an adapter file's metadata.

    Arguments
    ---------
    metadata : dict
        What ``read_metadata`` returned.

    Example
    -------
    >>> facts_of({"method": "Lora", "r": 8, "locale": "eo", "layers": ["a", "b"]})
    {'locale': 'eo', 'method': 'Lora', 'rank': 8}
    """
    facts = {
        name: metadata.get(name)
        for name in ("base_model", "base_fingerprint", "locale", "method", "test_wer")
    }
    facts["rank"] = metadata.get("rank", metadata.get("r"))
    return {name: value for name, value in facts.items() if value is not None}


def write_record(
    folder: Path,
    model: AdaptedWhisper,
    format_name: str,
    code: str | None,
    metadata: dict | None,
) -> None:
    """Note in a folder what was exported to it.

    Arguments
    ---------
    folder : Path
        The exported folder.
    model : AdaptedWhisper
        What was exported.
    format_name : str
        "huggingface", "peft" or "ctranslate2".
    code : str
        The language to call it with; None: none.
    metadata : dict
        Of the adapter file, if there is one.
    """
    here = {**describe(model), "base_model": model.source, "locale": new_locale(model)}
    facts = facts_of({**here, **(metadata or {})})
    record = {"format": format_name, "language": code, **facts}
    (folder / RECORD).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


def read_record(folder: str | Path) -> dict:
    """What a folder says was exported to it.

    Arguments
    ---------
    folder : str or Path
        An exported folder.

    Raises
    ------
    ValueError
        If it is none.
    """
    file = Path(folder) / RECORD
    if not file.is_file():
        raise ValueError(
            f"'{folder}' has no {RECORD}, so it was not exported by this package. "
            "Expected such a folder, or an adapter file."
        )
    return json.loads(file.read_text(encoding="utf-8"))
