"""Common Voice folder -> SpeechBrain manifests with a fixed number of hours.

Common Voice's own splits become ``train.csv``, ``dev.csv`` and ``test.csv``.
Beside them, ``manifest_report.json`` counts every clip that was left out and
says why, and ``durations.csv`` keeps what was learnt about each clip, so that
only the first run has to decode audio.

Run ``python common_voice_prepare.py --help`` for the command.
"""

import argparse
import csv
import hashlib
import io
import json
import logging
import math
import os
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Dict, List, NamedTuple, Optional, Tuple, Union

import soundfile
from tqdm import tqdm

from speechbrain.utils.logger import get_logger

logger = get_logger(__name__)

SPLITS = ("train", "dev", "test")
MANIFEST_COLUMNS = ("ID", "duration", "wav", "wrd", "locale")
DURATION_COLUMNS = ("clip", "size", "mtime_ns", "duration", "problem")
REASONS = "missing_file unreadable_audio zero_length too_long empty_text".split()
REASONS += "text_too_long duplicate malformed_row".split()
AUDIO_SUFFIXES = (".mp3", ".wav", ".flac", ".ogg")
QUOTES_AND_COMMAS = re.compile("[,\"'`’‘‚“”„‟«»]")
BLOCK = 128  # clips measured at a time; at the end up to as many in vain
RULES_VERSION = 1  # raise it with any change of what gets into a manifest
SYSTEM_ERROR = 2  # libsndfile's SF_ERR_SYSTEM


class CommonVoiceError(ValueError):
    """A Common Voice folder, or a request about it, that cannot be served."""


class Row(NamedTuple):
    """A usable line of a TSV: its number, its file in clips/, its sentence."""

    number: int
    clip: str
    sentence: str


def prepare_common_voice(
    data_folder: Union[str, Path],
    save_folder: Union[str, Path],
    locale: str,
    train_hours: float = 10,
    dev_hours: float = 1,
    test_hours: float = 1,
    max_duration: float = 10.0,
    max_characters: int = 200,
    durations_file: Union[str, Path, None] = None,
    num_workers: Optional[int] = None,
    skip_prep: bool = False,
) -> Dict[str, str]:
    """Writes the manifests of one locale of any Common Voice release.

    Clips are taken in a fixed pseudo-random order until the next one would
    exceed the hours asked for, so 10 h is a prefix of 50 h and of 100 h. Where
    a split holds less, all of it is used, with a warning. A second call with
    the same settings on the same TSVs returns at once.

    Arguments
    ---------
    data_folder : str or Path
        Holds ``<locale>/`` or ``cv-corpus-*/<locale>/``, and there
        ``train.tsv``, ``dev.tsv``, ``test.tsv`` and ``clips/``.
    save_folder : str or Path
        Where the manifests (columns ``ID, duration, wav, wrd, locale``) and
        the report go. In ``wav``, ``$data_root`` stands for ``data_folder``.
    locale : str
        Common Voice's name of the language, e.g. ``eo`` or ``fy-NL``.
    train_hours, dev_hours, test_hours : float
        Hours of speech wanted in each split.
    max_duration : float
        Longer clips are dropped, in seconds.
    max_characters : int
        Longer sentences are dropped, counted after :func:`clean_text`.
    durations_file : str or Path
        Default: ``<save_folder>/durations.csv``. Several locales may share it.
    num_workers : int
        Threads that decode audio. Default: Python's choice.
    skip_prep : bool
        Only check that everything was prepared before.

    Returns
    -------
    dict
        The paths under "train", "dev", "test" and "report".

    Raises
    ------
    CommonVoiceError
        For anything missing, a path that leaves ``clips/``, a split of which
        nothing is left, and hours that are not a positive number.

    Example
    -------
    >>> tmp = getfixture("tmp_path")
    >>> clips = tmp / "eo" / "clips"
    >>> clips.mkdir(parents=True)
    >>> for split in ("train", "dev", "test"):
    ...     soundfile.write(clips / f"{split}.wav", [0.0] * 16000, 16000)
    ...     tsv = f"path\\tsentence\\n{split}.wav\\tSaluton, mondo!\\n"
    ...     _ = (tmp / "eo" / f"{split}.tsv").write_text(tsv)
    >>> paths = prepare_common_voice(tmp, tmp / "manifests", "eo")
    >>> print(Path(paths["train"]).read_text().strip())
    ID,duration,wav,wrd,locale
    train,1.000,$data_root/eo/clips/train.wav,Saluton mondo!,eo
    """
    data_folder, save_folder = Path(data_folder), Path(save_folder)
    paths = {split: save_folder / f"{split}.csv" for split in SPLITS}
    paths["report"] = save_folder / "manifest_report.json"
    returned = {name: str(path) for name, path in paths.items()}
    if skip_prep:
        missing = [path.name for path in paths.values() if not path.is_file()]
        if missing:
            raise CommonVoiceError(
                f"skip_prep expects finished manifests in {save_folder}, found no "
                f"{', '.join(missing)}; run once without skip_prep."
            )
        return returned

    hours = dict(zip(SPLITS, (train_hours, dev_hours, test_hours)))
    limits = {"max_duration": max_duration, "max_characters": max_characters}
    settings = {**{f"{split}_hours": h for split, h in hours.items()}, **limits}
    for name, value in settings.items():
        if not 0 < value < math.inf:
            raise CommonVoiceError(
                f"expected a positive number as {name}, found {value}; a large one "
                "takes all there is."
            )
    folder = find_locale_folder(data_folder, locale)
    tsvs = {split: folder / f"{split}.tsv" for split in SPLITS}
    settings["locale_folder"] = folder.relative_to(data_folder).as_posix()
    settings["rules_version"] = RULES_VERSION
    report = {
        "locale": locale,
        "settings": settings,
        "tsv_sha256": {s: _sha256(tsv.read_bytes()) for s, tsv in tsvs.items()},
    }
    if _is_prepared(paths, report):
        logger.info(
            f"{locale}: {save_folder} already holds the manifests asked for; "
            f"delete its {paths['report'].name} to make them anew."
        )
        return returned

    file = Path(durations_file or save_folder / "durations.csv")
    durations = ClipDurations(folder / "clips", file, num_workers)
    clips = f"$data_root/{settings['locale_folder']}/clips"
    manifests, splits = {}, {}
    try:
        for split, tsv in tsvs.items():
            kept, splits[split] = select_clips(tsv, hours[split], durations, **limits)
            _check_and_log(f"{locale} {split}", splits[split])
            rows = [(n, f"{s:.3f}", f"{clips}/{c}", t, locale) for n, s, c, t in kept]
            manifests[paths[split]] = _csv_bytes(MANIFEST_COLUMNS, rows)
    finally:
        durations.save()  # so that an interrupted run need not decode again
    report.update(data_hash=_sha256(*manifests.values()), splits=splits)
    text = json.dumps(report, indent=2, ensure_ascii=False) + "\n"
    _write_files({**manifests, paths["report"]: text.encode("utf-8")})
    return returned


def clean_text(sentence: str) -> str:
    """Returns the sentence without commas and quotes, as CL-MASR has it.

    ``$`` becomes ``S``, because SpeechBrain takes it for a variable.

    Example
    -------
    >>> clean_text(' «Ĉu vi», li diris,  "venos?" ')
    'Ĉu vi li diris venos?'
    """
    return " ".join(QUOTES_AND_COMMAS.sub(" ", sentence).replace("$", "S").split())


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
        root: [f.name for f in root.iterdir() if any((f / p).exists() for p in parts)]
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
    missing = [part for part in parts if not (folder / part).exists()]
    if missing:
        raise CommonVoiceError(
            f"expected {', '.join(parts)} in {folder}, found no "
            f"{', '.join(missing)}; extract the whole archive of the locale."
        )
    return folder


def read_tsv(tsv: Path) -> Tuple[List[Row], List[str]]:
    """Returns the usable rows and the names ("row 7") of the malformed ones.

    Columns are found by their header, as they moved from release to release.
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
                raise _outside_clips(tsv, row)
            if not parsed.name or "$" in row.clip:  # for $, see clean_text
                malformed.append(f"row {number}")
            elif parsed.suffix.lower() in AUDIO_SUFFIXES:
                rows.append(row)
            else:  # very old releases leave it out
                rows.append(row._replace(clip=row.clip + ".mp3"))
    return rows, malformed


def select_clips(
    tsv: Path,
    hours: float,
    durations: "ClipDurations",
    max_duration: float = 10.0,
    max_characters: int = 200,
) -> Tuple[List[tuple], dict]:
    """Takes clips of a split in the fixed order while they fit into the hours.

    Returns them as (ID, seconds, file in clips/, text), and the split's report.
    """
    rows, malformed = read_tsv(tsv)
    dropped = {reason: [] for reason in REASONS}
    dropped["malformed_row"] += malformed
    kept, names, total, limit = [], set(), 0.0, round(hours * 3600, 3)
    enough = False
    bar = "{l_bar}{bar}| {n:.0f}/{total:.0f} s of speech [{elapsed}]"
    with tqdm(total=limit, desc=tsv.stem, bar_format=bar, disable=None) as progress:
        for row, seconds, problem in _in_fixed_order(tsv, rows, durations):
            name, text = PurePosixPath(row.clip).stem, clean_text(row.sentence)
            reason = (
                problem
                or (seconds > max_duration and "too_long")
                or (not text and "empty_text")
                or (len(text) > max_characters and "text_too_long")
                or (name in names and "duplicate")
            )
            if reason:
                dropped[reason].append(row.clip)
                continue
            longer = round(total + seconds, 3)  # binary fractions would add up
            if longer > limit:
                enough = True
                break
            total = longer
            names.add(name)
            kept.append((name, seconds, row.clip, text))
            progress.update(seconds)
    return kept, {
        "rows_in_tsv": len(rows) + len(malformed),
        "clips_examined": len(kept) + sum(map(len, dropped.values())),
        "clips_kept": len(kept),
        "hours_kept": round(total / 3600, 6),
        "hours_asked": hours,
        "less_than_asked": not enough and total < limit,
        "dropped": {r: {"count": len(c), "clips": c} for r, c in dropped.items()},
    }


def _in_fixed_order(tsv, rows, durations):
    """Yields (row, seconds, problem), measuring clips block by block as needed."""

    # A digest of the name alone gives the same order on any machine, whatever
    # the order of the rows (which are sorted by speaker), and a clip that a
    # release adds or removes moves no other.
    def key(row):
        return _sha256(PurePosixPath(row.clip).name.encode("utf-8")), row[1:]

    rows = sorted(rows, key=key)
    for start in range(0, len(rows), BLOCK):
        block = rows[start : start + BLOCK]
        measured = durations.measure([row.clip for row in block])
        for row, (seconds, problem) in zip(block, measured):
            if problem == "outside":
                raise _outside_clips(tsv, row)
            yield row, seconds, problem


def _outside_clips(tsv, row):
    return CommonVoiceError(
        f"{tsv}, row {row.number}: expected a file in clips/, found "
        f"{row.clip!r}, which lies outside; correct or remove the row."
    )


class ClipDurations:
    """Seconds of clips in a folder, remembered in a CSV file between runs.

    A clip is decoded again when its size or time of modification changes; one
    that cannot be decoded is remembered with the reason.
    """

    def __init__(self, clips: Path, file: Path, num_workers: Optional[int] = None):
        self.folder = Path(os.path.realpath(clips))
        self.file = file
        self.num_workers = num_workers or None
        self.entries = self._load() if file.exists() else {}
        self.changed = False

    def measure(self, clips: List[str]) -> List[Tuple[float, str]]:
        """Returns (seconds, problem) of each clip; a good one has problem ""."""
        # Decoding does not hold Python's lock: on two cores, threads were as
        # fast as processes and twice as fast as one thread.
        with ThreadPoolExecutor(self.num_workers) as pool:
            return list(pool.map(self._measure, clips))

    def save(self) -> None:
        """Writes the file if a clip was measured since it was read."""
        if self.changed:
            rows = ((clip, *entry) for clip, entry in sorted(self.entries.items()))
            _write_files({self.file: _csv_bytes(DURATION_COLUMNS, rows)})

    def _measure(self, clip):
        path = Path(os.path.realpath(self.folder / clip))
        if self.folder not in path.parents:
            return 0.0, "outside"
        if not os.path.isfile(path):
            return 0.0, "missing_file"
        stat = path.stat()
        stamp = (stat.st_size, stat.st_mtime_ns)
        if self.entries.get(clip, ())[:2] != stamp:
            try:
                seconds = _decoded_seconds(path) if stat.st_size else 0.0
                found = (seconds, "" if seconds else "zero_length")
            except soundfile.LibsndfileError as error:
                found = (0.0, "unreadable_audio")
                if error.code == SYSTEM_ERROR:
                    return found  # a missing permission, say, may be mended
            self.entries[clip] = stamp + found
            self.changed = True
        return self.entries[clip][2:]

    def _load(self):
        try:
            with open(self.file, encoding="utf-8", newline="") as file:
                header, *rows = csv.reader(file)
            if tuple(header) != DURATION_COLUMNS:
                raise ValueError(f"its columns are {header}")
            entries = {c: (int(n), int(t), float(s), p) for c, n, t, s, p in rows}
            for clip, (_, _, seconds, problem) in entries.items():
                known = problem in REASONS[1:3] if problem else 0 < seconds < math.inf
                if not known:
                    raise ValueError(f"{clip} has {seconds} s and problem {problem!r}")
            return entries
        except (OSError, ValueError, csv.Error) as error:
            logger.warning(f"{self.file} is damaged ({error}); ignoring it.")
            return {}


def _decoded_seconds(path):
    # The length an mp3 announces is an estimate, off by some milliseconds in
    # most clips, and does not tell whether the rest can be decoded at all.
    frames = 0
    with soundfile.SoundFile(path) as audio:
        while count := len(audio.read(2**16, dtype="float32")):
            frames += count
        return round(frames / audio.samplerate, 3)


def _check_and_log(name, split):
    """Says in words what was chosen; a split without clips is an error."""
    drops = {reason: drop["count"] for reason, drop in split["dropped"].items()}
    words = ", ".join(f"{n} {reason}" for reason, n in drops.items() if n) or "none"
    if not split["clips_kept"]:
        raise CommonVoiceError(
            f"expected {split['hours_asked']} h of speech in {name}, found nothing "
            f"to use in the {split['rows_in_tsv']} rows of its TSV (dropped: {words}); "
            "complete clips/, or allow more hours or longer clips."
        )
    logger.info(
        f"{name}: kept {split['clips_kept']} clips, {split['hours_kept']:.2f} h of "
        f"{split['hours_asked']} h asked for; examined {split['clips_examined']} "
        f"of {split['rows_in_tsv']} rows; dropped: {words}"
    )
    if split["less_than_asked"]:
        logger.warning(
            f"{name}: only {split['hours_kept']:.2f} h of speech where "
            f"{split['hours_asked']} h were asked for; all of it is used."
        )


def _is_prepared(paths, request):
    try:
        report = json.loads(paths["report"].read_text(encoding="utf-8"))
        data_hash = _sha256(*(paths[split].read_bytes() for split in SPLITS))
        return report == {**report, **request, "data_hash": data_hash}
    except (OSError, ValueError, TypeError):
        return False


def _sha256(*contents):
    return hashlib.sha256(b"".join(contents)).hexdigest()


def _csv_bytes(columns, rows):
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([columns, *rows])
    return text.getvalue().encode("utf-8")


def _write_files(contents):
    """Writes files so that none is ever half there; the last is the marker.

    All are written beside their places first: a full disk changes nothing. The
    old marker goes before the first is renamed, the new one comes last.
    """
    beside = {p: p.with_name(f"{p.name}.{os.getpid()}.tmp") for p in contents}
    *others, marker = contents
    try:
        for path, content in contents.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            beside[path].write_bytes(content)
        if others:
            marker.unlink(missing_ok=True)
        for path in contents:
            os.replace(beside[path], path)
    finally:
        for path in beside.values():
            path.unlink(missing_ok=True)


def main(argv: Optional[List[str]] = None) -> None:
    """The command: ``python common_voice_prepare.py --help``."""
    parser = argparse.ArgumentParser(
        description="Write train.csv, dev.csv and test.csv for SpeechBrain from a "
        "Common Voice locale, with manifest_report.json on every clip left out.",
        epilog="example: python common_voice_prepare.py --data_folder ~/corpora "
        "--locale eo --save_folder manifests/eo --train_hours 10",
    )
    add = parser.add_argument
    add("--data_folder", required=True, help="holds <locale>/ or cv-corpus-*/<locale>/")
    add("--save_folder", required=True, help="where the manifests go")
    add("--locale", required=True, help="Common Voice's language name: eo, fy-NL, ...")
    for split, hours in zip(SPLITS, (10.0, 1.0, 1.0)):
        text = "hours to take, a prefix of any larger number (default: %(default)s)"
        add(f"--{split}_hours", type=float, default=hours, help=text)
    text = "drop longer clips, in seconds (default: %(default)s)"
    add("--max_duration", type=float, default=10.0, help=text)
    text = "drop longer sentences (default: %(default)s)"
    add("--max_characters", type=int, default=200, help=text)
    add("--durations_file", help="known durations (default: save_folder/durations.csv)")
    add("--num_workers", type=int, help="decoding threads (default: Python's choice)")
    add("--skip_prep", action="store_true", help="only check that the files exist")
    logging.basicConfig(level=logging.INFO, format="%(levelname)s: %(message)s")
    try:
        prepare_common_voice(**vars(parser.parse_args(argv)))
    except CommonVoiceError as error:
        raise SystemExit(f"error: {error}") from error


if __name__ == "__main__":
    main()
