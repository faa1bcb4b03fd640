#!/usr/bin/env python3
"""Coverage-guided fuzzing of Common Voice tables: `make fuzz`.

> python fuzz_tables.py corpus/tables -max_total_time=60

Of any bytes as train.tsv, rows are taken, or left out and counted, or one
CommonVoiceError says what is wrong.
"""

import sys
import tempfile
from contextlib import suppress
from pathlib import Path

import atheris

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "recipes" / "CommonVoice"))
with atheris.instrument_imports(include=["common_voice_folder", "clip_selection"]):
    import split_train
    from clip_durations import ClipDurations
    from clip_selection import select_clips
    from common_voice_folder import CommonVoiceError

FOLDER = Path(tempfile.mkdtemp(prefix="fuzz-tables-"))
TSV = FOLDER / "source" / "train.tsv"


class NoAudio(ClipDurations):
    """Every clip that can be named lasts a second."""

    def _measure(self, clip):
        _, problem = super()._measure(clip)
        return (0.0, problem) if problem == "outside" else (1.0, "")


def fuzz(data: bytes) -> None:
    """One table."""
    TSV.write_bytes(data)
    with suppress(CommonVoiceError):
        kept, report = select_clips(
            TSV, 1.0, NoAudio(FOLDER / "clips", FOLDER / "durations.csv", 1)
        )
        dropped = sum(drop["count"] for drop in report["dropped"].values())
        assert report["clips_kept"] + dropped == report["clips_examined"]
        assert report["clips_examined"] == report["rows_in_tsv"]
        for _, _, clip, text in kept:
            assert text and "$" not in clip + text and ".." not in Path(clip).parts
    with suppress(CommonVoiceError):
        split_train.divide_locale(TSV.parent, FOLDER / "split", 0.1)
    assert {path.name for path in FOLDER.iterdir()} <= {"source", "clips", "split"}


if __name__ == "__main__":
    TSV.parent.mkdir()
    (FOLDER / "clips").mkdir()
    atheris.Setup(sys.argv, fuzz)
    atheris.Fuzz()
