"""``sumra inspect``, ``sumra list`` and ``sumra mix``: what adapter files hold."""

import argparse
import math
from collections import defaultdict
from pathlib import Path

from safetensors import safe_open

from speechbrain_sumra.adapter_file import BASIS, AdapterFileError, read_metadata
from speechbrain_sumra.adapter_folder import find_adapters
from speechbrain_sumra.cli.commands import UsageError, places, printable
from speechbrain_sumra.inference import Transcriber

COLUMNS = ("locale", "method", "rank", "language", "base model", "WER", "MB", "file")


def inspect(args: argparse.Namespace) -> int:
    """Prints one fact a line."""
    facts = facts_of(args.file)
    width = max(map(len, facts))
    for name, value in facts.items():
        print(printable(f"{name:{width}}  {value}"))
    return 0


def facts_of(path: str | Path) -> dict[str, str]:
    """What an adapter file says of itself, in words.

    Arguments
    ---------
    path : str or Path
        An adapter file.

    Raises
    ------
    AdapterFileError
        If it is none, or damaged.
    """
    metadata = dict(read_metadata(path))
    names = ("locale", "method", "layers", "settings", "versions", "test_wer")
    names += ("base_model", "base_fingerprint", "basis_fingerprint")
    known = {name: metadata.pop(name, None) for name in names}
    method, wer = known["method"], known["test_wer"]
    versions = known["versions"] or {}
    facts = {
        "locale": known["locale"],
        "method": method or "full fine-tuning",
        **{name: metadata.pop(name, None) for name in known["settings"] or ()},
        "adapted layers": len(known["layers"] or ()),
        "base model": f"{known['base_model']} ({known['base_fingerprint']})",
        "basis": known["basis_fingerprint"] or "none",
        **{name.replace("_", " "): value for name, value in metadata.items()},
        "test WER": "unknown" if wer is None else f"{wer:.2f} %",
        "versions": ", ".join(f"{name} {text}" for name, text in versions.items()),
    }
    parts = bytes_by_part(path, adapted=method is not None)
    tensors = sum(size for size, _ in parts.values())
    facts["bytes"] = f"{Path(path).stat().st_size:,}"
    for part, (size, number) in parts.items():
        facts[f"  {part}"] = f"{size:,} ({number} tensor{'s'[: number > 1]})"
    facts["  header"] = f"{Path(path).stat().st_size - tensors:,}"
    return {
        name: str(value) for name, value in facts.items() if value not in (None, "")
    }


def bytes_by_part(path: str | Path, adapted: bool) -> dict[str, tuple[int, int]]:
    """Bytes and number of an adapter file's tensors, by what they are.

    Arguments
    ---------
    path : str or Path
        An adapter file.
    adapted : bool
        Whether its method has adapters.
    """
    parts: dict[str, tuple[int, int]] = defaultdict(lambda: (0, 0))
    with safe_open(path, framework="pt") as file:
        for name in file.keys():
            if name.startswith(BASIS):
                part = "basis of its own"
            elif "layer_norm" in name:
                part = "layer norms"
            elif "new_token" in name:
                part = "language token"
            else:
                part = "adapters" if adapted else "other weights"
            size, number = parts[part]
            parts[part] = size + file.get_tensor(name).nbytes, number + 1
    return dict(parts)


def list_adapters(args: argparse.Namespace) -> int:
    """Prints the table; 1 if there is nothing to show."""
    folder = Path(args.folder)
    if not folder.is_dir():
        raise UsageError(f"{folder} is no folder")
    rows = []
    for file in sorted(folder.rglob("*.safetensors")):
        try:
            rows.append(_row(read_metadata(file), file))
        except AdapterFileError:
            continue  # bases and encoder states have the same ending
    if not rows:
        raise AdapterFileError(f"No adapter file in {folder}.")
    for row in _aligned([COLUMNS, *rows]):
        print(printable(row))
    return 0


def _row(metadata: dict, file: Path) -> tuple[str, ...]:
    wer = metadata.get("test_wer")
    values = (
        metadata.get("locale"),
        metadata.get("method") or "full",
        metadata.get("rank", metadata.get("r")),
        metadata.get("language"),
        metadata.get("base_model"),
        None if wer is None else f"{wer:.2f}",
        f"{file.stat().st_size / 1e6:.1f}",
        file,
    )
    return tuple("-" if value is None else str(value) for value in values)


def _aligned(rows: list[tuple[str, ...]]) -> list[str]:
    """Lines with columns below each other."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join(f"{cell:{width}}" for cell, width in zip(row, widths, strict=True))
        for row in rows
    ]
    return [line.rstrip() for line in lines]


def mix(args: argparse.Namespace) -> int:
    """Writes the mixture and prints its name."""
    weights = _weights(args.weights)
    _check_output(args, weights)
    transcriber = Transcriber.from_adapters(
        args.adapter, args.whisper, list(weights), **places(args)
    )
    print(transcriber.bank.mix(weights, args.out))
    return 0


def _weights(parts: list[str]) -> dict[str, float]:
    """The weight of each locale."""
    weights: dict[str, float] = {}
    for part in parts:
        locale, _, text = part.partition("=")
        try:
            weight = float(text)
        except ValueError:
            raise UsageError(f"expected LOCALE=WEIGHT, got {part!r}") from None
        if not math.isfinite(weight):
            raise UsageError(f"expected a finite weight, got {part!r}")
        if locale in weights:
            raise UsageError(f"{locale!r} is given twice: give it the sum of both")
        weights[locale] = weight
    return weights


def _check_output(args: argparse.Namespace, weights: dict[str, float]) -> None:
    """A mixture must not take the place of what it is made of."""
    out = Path(args.out)
    for place in args.adapter:
        for locale, file in find_adapters(place, weights).items():
            if locale in weights and out.exists() and file.samefile(out):
                raise UsageError(
                    f"{out} is the adapter of {locale!r}, which is to be mixed: name "
                    "another file to write"
                )
