#!/usr/bin/env python3
"""Divide locales that have only train.tsv into training, development and test set.

> python split_train.py --data_folder DIR --output_folder OUT

Speakers stay together, where the TSV tells them apart; their client_id becomes a
digest. OUT/<locale>/ then has
train.tsv, dev.tsv, test.tsv and clips, a link to the original folder, and is what
train.py expects as --data_folder OUT.
"""

import argparse
import hashlib
import os
from collections import defaultdict
from pathlib import Path

from common_voice_folder import SPLITS, CommonVoiceError

from speechbrain_sumra.files import write_text


def divide(
    lines: list[str], speakers: list[str], dev: int, test: int
) -> dict[str, list[str]]:
    """Lines of each split; no speaker is in two of them.

    Speakers come in a fixed pseudo-random order. One goes to the development set if
    all of its lines still fit there, else to the test set if they do, else to the
    training set.

    Arguments
    ---------
    lines : list of str
        Lines of a TSV.
    speakers : list of str
        The speaker of each.
    dev, test : int
        Most lines of these two splits.

    Returns
    -------
    dict of str to list of str
        "train", "dev" and "test".

    Example
    -------
    >>> splits = divide(["a 1", "a 2", "b 1", "c 1"], ["a", "a", "b", "c"], 1, 1)
    >>> sorted(splits["train"]), len(splits["dev"]), len(splits["test"])
    (['a 1', 'a 2'], 1, 1)
    """
    of_speaker = defaultdict(list)
    for speaker, line in zip(speakers, lines, strict=True):
        of_speaker[speaker].append(line)
    room = {"dev": dev, "test": test, "train": len(lines)}
    splits = {split: [] for split in SPLITS}
    for speaker in sorted(
        of_speaker, key=lambda s: hashlib.sha256(s.encode()).digest()
    ):
        own = of_speaker[speaker]
        split = next(name for name in room if len(own) <= room[name])
        splits[split] += own
        room[split] -= len(own)
    return splits


def divide_locale(source: Path, target: Path, share: float) -> dict[str, int]:
    """Write the splits of one locale; return how many clips each has."""
    tsv = source / "train.tsv"
    text = tsv.read_bytes().decode("utf-8-sig", errors="replace")
    # Not splitlines(), which takes more than these for an end of line.
    header, *lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    names = header.split("\t")
    if "path" not in names:
        raise CommonVoiceError(
            f"expected a column path in {tsv}, found {', '.join(names)[:80] or 'none'}."
        )
    rows = [line.split("\t") for line in lines if line]
    whole = [row for row in rows if len(row) == len(names)]
    if len(whole) < len(rows):
        print(f"{tsv}: {len(rows) - len(whole)} malformed rows are left out")
    # Where nobody is named, each clip is by somebody else.
    column = names.index("client_id" if "client_id" in names else "path")
    speakers = [row[column] for row in whole]
    if "client_id" in names:  # to tell speakers apart, a digest is enough
        for row in whole:
            row[column] = hashlib.sha256(row[column].encode()).hexdigest()[:16]
    lines = ["\t".join(row) for row in whole]
    number = max(1, round(share * len(lines)))
    splits = divide(lines, speakers, number, number)
    target.mkdir(parents=True, exist_ok=True)
    for split, own in splits.items():
        write_text(target / f"{split}.tsv", "\n".join([header, *own]) + "\n")
    clips = target / "clips"
    if not clips.is_symlink():
        os.symlink((source / "clips").resolve(), clips, target_is_directory=True)
    return {split: len(own) for split, own in splits.items()}


def main(argv: list[str] | None = None) -> None:
    """The command: ``python split_train.py --help``."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--data_folder", type=Path, required=True, help="holds <locale>/train.tsv")
    add("--output_folder", type=Path, required=True, help="where the splits go")
    add("--locales", nargs="*", help="which of them (default: all)")
    text = (
        "of the clips for development, and as many for the test (default: %(default)s)"
    )
    add("--share", type=float, default=0.05, help=text)
    arguments = parser.parse_args(argv)
    found = sorted(tsv.parent.name for tsv in arguments.data_folder.glob("*/train.tsv"))
    locales = arguments.locales or found
    missing = sorted(set(locales) - set(found))
    if missing or not locales:
        raise CommonVoiceError(
            f"expected <locale>/train.tsv in {arguments.data_folder} for "
            f"{', '.join(missing) or 'at least one locale'}, found: "
            f"{', '.join(found) or 'none'}."
        )
    for locale in locales:
        number = divide_locale(
            arguments.data_folder / locale,
            arguments.output_folder / locale,
            arguments.share,
        )
        print(locale, *(f"{split} {n}" for split, n in number.items()), sep="\t")
    print("--locale", "+".join(locales))


if __name__ == "__main__":
    try:
        main()
    except CommonVoiceError as error:
        raise SystemExit(f"error: {error}") from error
