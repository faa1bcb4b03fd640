"""What a folder of Common Voice holds: its locales, and the rows of a TSV."""

import csv
from os.path import exists  # False where it may not be looked, as in lost+found
from pathlib import Path, PureWindowsPath
from typing import NamedTuple

SPLITS = ("train", "dev", "test")
AUDIO_SUFFIXES = (".mp3", ".wav", ".flac", ".ogg")


class CommonVoiceError(ValueError):
    """A Common Voice folder, or a request about it, that cannot be served."""


class Row(NamedTuple):
    """A usable line of a TSV: its number, its file in clips/, its sentence."""

    number: int
    clip: str
    sentence: str


def find_locale_folder(data_folder: Path, locale: str) -> Path:
    """Returns the one complete folder of a locale, or says what is missing."""
    if not data_folder.is_dir():
        raise CommonVoiceError(
            f"expected the folder of Common Voice as data_folder, but {data_folder} "
            "is no folder; give the one that the archive was extracted into."
        )
    parts = [f"{split}.tsv" for split in SPLITS] + ["clips"]
    releases = sorted(f for f in data_folder.glob("cv-corpus-*") if f.is_dir())
    locales = {
        root: [f.name for f in root.iterdir() if any(exists(f / p) for p in parts)]
        for root in (data_folder, *releases)
    }
    holders = [root for root, names in locales.items() if locale in names]
    if not holders:
        present = ", ".join(sorted(set().union(*locales.values()))) or "none"
        raise CommonVoiceError(
            f"expected locale {locale!r} in {data_folder} or a cv-corpus-* in it, "
            f"found locales: {present}; extract that locale's archive there."
        )
    if len(holders) > 1 and holders[0] != data_folder:
        raise CommonVoiceError(
            f"expected one release with locale {locale!r} in {data_folder}, found "
            f"{', '.join(h.name for h in holders)}; name one of them as data_folder."
        )
    folder = holders[0] / locale
    missing = [part for part in parts if not exists(folder / part)]
    if missing:
        raise CommonVoiceError(
            f"expected {', '.join(parts)} in {folder}, found no "
            f"{', '.join(missing)}; extract the whole archive of the locale."
        )
    return folder


def read_tsv(tsv: Path) -> tuple[list[Row], list[str]]:
    """Returns the usable rows and the names ("row 7") of the malformed ones.

    Columns are found by their header, as they moved from release to release.

    Example
    -------
    >>> tsv = getfixture("tmp_path") / "train.tsv"
    >>> _ = tsv.write_text("path\\tsentence\\na\\tSaluton!\\nb\\n")
    >>> read_tsv(tsv)
    ([Row(number=2, clip='a.mp3', sentence='Saluton!')], ['row 3'])
    """
    csv.field_size_limit(2**31 - 1)  # some sentences are longer than the default
    rows, malformed = [], []
    with open(tsv, encoding="utf-8-sig", errors="replace", newline="") as file:
        # A NUL (which Python before 3.11 refuses) counts like broken UTF-8.
        lines = (line.replace("\0", "\ufffd") for line in file)
        # A quotation mark in a sentence is just that: nothing here is quoted.
        reader = csv.reader(lines, delimiter="\t", quoting=csv.QUOTE_NONE)
        header = next(reader, [])
        if not {"path", "sentence"} <= set(header):
            raise CommonVoiceError(
                f"expected the columns path and sentence in {tsv}, found "
                f"{', '.join(header) or 'none'}; give a TSV of Common Voice."
            )
        path, sentence = header.index("path"), header.index("sentence")
        for fields in filter(None, reader):
            number = reader.line_num
            if len(fields) != len(header) or "\ufffd" in "".join(fields):
                malformed.append(f"row {number}")
                continue
            row = Row(number, fields[path].strip(), fields[sentence])
            parsed = PureWindowsPath(row.clip)  # knows / as well as \ and C:
            if parsed.anchor or ".." in parsed.parts:
                raise outside_clips(tsv, row)
            if not parsed.name or "$" in row.clip:  # SpeechBrain's sign of a variable
                malformed.append(f"row {number}")
            elif parsed.suffix.lower() in AUDIO_SUFFIXES:
                rows.append(row)
            else:  # very old releases leave it out
                rows.append(row._replace(clip=row.clip + ".mp3"))
    return rows, malformed


def outside_clips(tsv: Path, row: Row) -> CommonVoiceError:
    """The error of a row whose file would lie outside ``clips/``."""
    return CommonVoiceError(
        f"{tsv}, row {row.number}: expected a file in clips/, found "
        f"{row.clip!r}, which lies outside; correct or remove the row."
    )
