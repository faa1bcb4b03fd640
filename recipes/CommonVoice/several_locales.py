"""Manifests of one run, whether it is for one locale or for several together."""

import csv
import hashlib
import io
import json
from contextlib import ExitStack
from pathlib import Path

from common_voice_folder import SPLITS
from common_voice_prepare import COLUMNS, prepare_common_voice

from speechbrain_sumra.files import replacing


def prepare_locales(
    data_folder: str | Path,
    save_folder: str | Path,
    locale: str,
    durations_file: str | Path,
    **settings,
) -> dict[str, str]:
    """Write the manifests of a locale, or of several as if they were one.

    Arguments
    ---------
    data_folder, save_folder : str or Path
        As for ``prepare_common_voice``.
    locale : str
        One locale, or several: "cs+pl+sl". Each then has its manifests in
        ``save_folder``/<locale>; those of all are these below each other, with the
        locale in front of the IDs.
    durations_file : str or Path
        Of the one locale; with several, <locale>.csv in the same folder.
    **settings
        As for ``prepare_common_voice``; hours are those of each locale.

    Returns
    -------
    dict
        The paths under "train", "dev", "test" and "report".

    Raises
    ------
    CommonVoiceError
        As ``prepare_common_voice``.
    """
    locales = list(dict.fromkeys(locale.split("+")))
    save_folder, durations_file = Path(save_folder), Path(durations_file)
    if len(locales) == 1:
        return prepare_common_voice(
            data_folder,
            save_folder,
            locale,
            durations_file=durations_file,
            **settings,
        )
    parts = {
        name: prepare_common_voice(
            data_folder,
            save_folder / name,
            name,
            durations_file=durations_file.with_name(f"{name}.csv"),
            **settings,
        )
        for name in locales
    }
    reports = {
        name: json.loads(Path(paths["report"]).read_text(encoding="utf-8"))
        for name, paths in parts.items()
    }
    hashes = "".join(report["data_hash"] for report in reports.values())
    together = {
        "locale": locale,
        "data_hash": hashlib.sha256(hashes.encode()).hexdigest(),
        "splits": {
            split: {
                key: sum(report["splits"][split][key] for report in reports.values())
                for key in ("clips_kept", "hours_kept")
            }
            for split in SPLITS
        },
    }
    texts = {split: _joined(split, parts) for split in SPLITS}
    texts["report"] = json.dumps(together, indent=2) + "\n"
    paths = {split: save_folder / f"{split}.csv" for split in SPLITS}
    paths["report"] = save_folder / "manifest_report.json"
    with ExitStack() as renames:
        for name, text in texts.items():
            partial = renames.enter_context(replacing(paths[name]))
            partial.write_bytes(text.encode("utf-8"))
        paths["report"].unlink(missing_ok=True)
    return {name: str(path) for name, path in paths.items()}


def _joined(split: str, parts: dict[str, dict[str, str]]) -> str:
    """The rows of all locales' manifests of a split, under one header."""
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(COLUMNS)
    for name, paths in parts.items():
        with open(paths[split], encoding="utf-8", newline="") as file:
            _, *rows = csv.reader(file)
        writer.writerows([f"{name}_{row[0]}", *row[1:]] for row in rows)
    return table.getvalue()
