"""Which clips of a split are taken: in a fixed order, as many as fit the hours."""

import re
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path, PurePosixPath

from clip_durations import PROBLEMS, ClipDurations
from common_voice_folder import Row, outside_clips, read_tsv
from tqdm import tqdm

# Why a clip is left out; of several reasons the first one counts.
REASONS = ["missing_file", *PROBLEMS, "too_long", "empty_text"]
REASONS += ["text_too_long", "duplicate", "malformed_row"]
QUOTES_AND_COMMAS = re.compile("[,\"'`’‘‚“”„‟«»]")
BLOCK = 128  # clips measured at a time; at the end up to as many in vain


def clean_text(sentence: str) -> str:
    """Returns the sentence without commas and quotes, as CL-MASR has it.

    ``$`` becomes ``S``, because SpeechBrain takes it for a variable.

    Example
    -------
    >>> clean_text(' «Ĉu vi», li diris,  "venos?" ')
    'Ĉu vi li diris venos?'
    """
    return " ".join(QUOTES_AND_COMMAS.sub(" ", sentence).replace("$", "S").split())


def select_clips(
    tsv: Path,
    hours: float,
    durations: ClipDurations,
    max_duration: float = 10.0,
    max_characters: int = 200,
) -> tuple[list[tuple], dict]:
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


def _in_fixed_order(
    tsv: Path, rows: list[Row], durations: ClipDurations
) -> Iterator[tuple[Row, float, str]]:
    """Yields (row, seconds, problem), measuring clips block by block as needed."""

    # A digest of the name alone gives the same order on any machine, whatever
    # the order of the rows (which are sorted by speaker), and a clip that a
    # release adds or removes moves no other.
    def key(row: Row) -> tuple:
        name = PurePosixPath(row.clip).name
        return sha256(name.encode("utf-8")).hexdigest(), row[1:]

    rows = sorted(rows, key=key)
    for start in range(0, len(rows), BLOCK):
        block = rows[start : start + BLOCK]
        measured = durations.measure([row.clip for row in block])
        for row, (seconds, problem) in zip(block, measured, strict=True):
            if problem == "outside":
                raise outside_clips(tsv, row)
            yield row, seconds, problem
