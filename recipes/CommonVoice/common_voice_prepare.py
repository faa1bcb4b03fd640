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
from contextlib import ExitStack
from pathlib import Path

from clip_durations import ClipDurations
from clip_selection import select_clips
from common_voice_folder import SPLITS, CommonVoiceError, find_locale_folder
from speechbrain.utils.logger import get_logger

from speechbrain_sumra.files import replacing
from speechbrain_sumra.files.folder_lock import FolderInUseError, holding

logger = get_logger(__name__)

COLUMNS = ("ID", "duration", "wav", "wrd", "locale")
RULES_VERSION = 2  # raise it with any change of what gets into a manifest


def prepare_common_voice(
    data_folder: str | Path,
    save_folder: str | Path,
    locale: str,
    train_hours: float = 10,
    dev_hours: float = 1,
    test_hours: float = 1,
    max_duration: float = 10.0,
    max_characters: int = 200,
    durations_file: str | Path | None = None,
    num_workers: int | None = None,
    skip_prep: bool = False,
) -> dict[str, str]:
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
        Longer sentences are dropped, counted after ``clean_text``.
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
    FolderInUseError
        If another process is preparing into ``save_folder``, for an hour.

    Example
    -------
    >>> tmp = getfixture("tmp_path")
    >>> clips = tmp / "eo" / "clips"
    >>> clips.mkdir(parents=True)
    >>> import soundfile
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

    hours = {"train": train_hours, "dev": dev_hours, "test": test_hours}
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

    with holding(save_folder, "--save_folder", patience=3600):
        file = Path(durations_file or save_folder / "durations.csv")
        durations = ClipDurations(folder / "clips", file, num_workers)
        tables, report["splits"] = {}, {}
        try:
            for split, tsv in tsvs.items():
                kept, found = select_clips(tsv, hours[split], durations, **limits)
                _check_and_log(f"{locale} {split}", found)
                clips = f"$data_root/{settings['locale_folder']}/clips"
                tables[paths[split]] = _table(kept, clips, locale)
                report["splits"][split] = found
        finally:
            durations.save()  # so that an interrupted run need not decode again
        report["data_hash"] = _sha256(*tables.values())
        text = json.dumps(report, indent=2, ensure_ascii=False) + "\n"
        _write_manifests(tables, paths["report"], text)
    return returned


def _table(kept: list[tuple], clips: str, locale: str) -> bytes:
    """A manifest of clips."""
    rows = [(n, f"{s:.3f}", f"{clips}/{c}", t, locale) for n, s, c, t in kept]
    table = io.StringIO()
    csv.writer(table, lineterminator="\n").writerows([COLUMNS, *rows])
    return table.getvalue().encode("utf-8")


def _check_and_log(name: str, split: dict) -> None:
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


def _is_prepared(paths: dict[str, Path], request: dict) -> bool:
    try:
        report = json.loads(paths["report"].read_text(encoding="utf-8"))
        data_hash = _sha256(*(paths[split].read_bytes() for split in SPLITS))
        return report == {**report, **request, "data_hash": data_hash}
    except (OSError, ValueError, TypeError):
        return False


def _sha256(*contents: bytes) -> str:
    return hashlib.sha256(b"".join(contents)).hexdigest()


def _write_manifests(manifests: dict[Path, bytes], report: Path, text: str) -> None:
    """Writes files of which none is ever half there; the report marks them finished.

    All are written beside their places first: a full disk changes nothing. The
    old report goes before the first is renamed, the new one comes last.
    """
    with ExitStack() as renames:  # made in the opposite order
        for path, content in {report: text.encode("utf-8"), **manifests}.items():
            renames.enter_context(replacing(path)).write_bytes(content)
        report.unlink(missing_ok=True)


def main(argv: list[str] | None = None) -> None:
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
    for split, hours in {"train": 10.0, "dev": 1.0, "test": 1.0}.items():
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
    except (CommonVoiceError, FolderInUseError) as error:
        raise SystemExit(f"error: {error}") from error


if __name__ == "__main__":
    main()
