"""CTranslate2 models converted once to Hugging Face folders, which are kept."""

import hashlib
import json
import mmap
import os
import shutil
import tempfile
from pathlib import Path

from filelock import FileLock
from speechbrain.utils.logger import get_logger

from speechbrain_sumra.pretrained.ctranslate2_to_huggingface import (
    convert_to_huggingface,
)

logger = get_logger(__name__)

RECORD = "conversion.json"
RECORD_FORMAT = 1  # raise it when conversions made before must be made again


def convert_folder(folder: Path, cache: Path, name: str) -> Path:
    """Converts a CTranslate2 folder as :func:`convert_once` does.

    Arguments
    ---------
    folder : Path
        Holds ``model.bin``, which is mapped and not read into memory at once,
        and ``tokenizer.json``.
    cache : Path
        Where conversions are kept.
    name : str
        What the model is called.

    Returns
    -------
    Path
        The Hugging Face folder.
    """
    with open(folder / "model.bin", "rb") as file:
        size = os.fstat(file.fileno()).st_size  # an empty file cannot be mapped
        data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) if size else b""
    return convert_once(data, folder, cache, name)


def convert_once(data, metadata: Path, cache: Path, name: str) -> Path:
    """Converts unless there is a finished conversion of the same files.

    Arguments
    ---------
    data : bytes-like
        The contents of ``model.bin``.
    metadata : Path
        Folder with ``tokenizer.json`` and what else is beside ``model.bin``.
    cache : Path
        Where conversions are kept.
    name : str
        What the model is called. Others may be called the same, so a hash of the
        files follows it in the folder's name.

    Returns
    -------
    Path
        The Hugging Face folder, ``<name>-<hash>-hf``.

    Raises
    ------
    CTranslate2FormatError
        If the model cannot be converted.
    FileExistsError
        If the folder is there and was not made by a conversion.
    """
    sources = {"model.bin": _sha256(data)}
    for file in ("config.json", "tokenizer.json", "vocabulary.json"):
        if (metadata / file).is_file():
            sources[file] = _sha256((metadata / file).read_bytes())
    digest = _sha256(json.dumps(sources, sort_keys=True).encode())[:8]
    target = cache / f"{name}-{digest}-hf"
    # Conversions were made before their names had a hash.
    for folder in (target, cache / f"{name}-hf"):
        if _is_finished(folder, sources):
            logger.info("Converted before: %s", folder)
            return folder
    target.parent.mkdir(parents=True, exist_ok=True)
    # One process converts, the others (training ranks, say) wait and find it.
    with FileLock(target.parent / f".{target.name}.lock"):
        if not _is_finished(target, sources):
            _convert(data, metadata, target, sources)
    return target


def _convert(data, metadata: Path, target: Path, sources: dict[str, str]) -> None:
    """Converts beside ``target`` and renames, so that it is whole or not there."""
    _check_replaceable(target)
    prefix = f".{target.name}-tmp-"
    for left_behind in target.parent.glob(f"{prefix}*"):  # by a killed process
        shutil.rmtree(left_behind, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix=prefix, dir=target.parent) as temporary:
        new = Path(temporary, "new")
        new.mkdir()
        convert_to_huggingface(data, metadata, new)
        record = {
            "format": RECORD_FORMAT,
            "sources": sources,
            "sizes": {path.name: path.stat().st_size for path in new.iterdir()},
        }
        (new / RECORD).write_text(json.dumps(record, indent=2), encoding="utf-8")
        if target.exists():
            os.replace(target, Path(temporary, "old"))
        os.replace(new, target)
    logger.info("Converted to %s", target)


def _is_finished(target: Path, sources: dict[str, str]) -> bool:
    try:
        record = json.loads((target / RECORD).read_text(encoding="utf-8"))
        made_from = (record["format"], record["sources"])
        return made_from == (RECORD_FORMAT, sources) and all(
            (target / name).stat().st_size == size
            for name, size in record["sizes"].items()
        )
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _check_replaceable(target: Path) -> None:
    """Only what a conversion made is replaced, never a user's own folder."""
    if not target.exists() or (target / RECORD).is_file():
        return
    if not target.is_dir() or any(target.iterdir()):
        raise FileExistsError(
            f"'{target}' exists and was not made by a conversion: it is left as "
            "it is. Move it away, or give another save_path."
        )


def _sha256(data) -> str:
    return hashlib.sha256(data).hexdigest()
