"""The paper's printed figures, and which of our runs they can stand beside.

``paper/table2.csv``, ``table3.csv`` and ``table4.csv`` are Tables 2, 3 and 4 of SumRA
(ICLR 2026): WER in percent, a cell empty where nothing is printed or can be read.
"""

import csv
from functools import cache
from pathlib import Path
from typing import NamedTuple

from speechbrain_sumra.report.runs import NAMES, Run

FOLDER = Path(__file__).parent / "paper"
LOCALES = ("eo", "ia", "fy-NL", "mhr", "kmr")
HOURS = (10, 50, 100)
# By its 108 languages and 17,690 validated hours.
RELEASE = "Common Voice 13.0"
SCOPE = {
    2: "whisper-small and whisper-large-v2 on eo, ia, fy-NL, mhr and kmr, 10 h each",
    3: "whisper-small on eo, ia, fy-NL, mhr and kmr, 10 h each, rank 32",
    4: "whisper-small on eo with 10, 50 and 100 h, rank 32",
}
TABLE_4_RANK = 32  # not printed; its figures at 10 h are those of Table 2
CONTEXT_MODEL = "whisper-small"
BASELINE = "LoRA"


class Place(NamedTuple):
    """What a printed WER is of."""

    model: str
    method: str
    rank: int | None
    locale: str
    hours: int


@cache
def printed(table: int) -> dict[Place, float]:
    """The figures of a table of the paper's.

    Arguments
    ---------
    table : int
        2, 3 or 4.

    Returns
    -------
    dict of Place to float
        WER in percent.

    Example
    -------
    >>> printed(3)[Place("whisper-small", "SumRA (block)", 32, "eo", 10)]
    21.68
    """
    found = {}
    path = FOLDER / f"table{table}.csv"
    with open(path, encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            rank = int(row["rank"]) if row.get("rank") else None
            if table == 4:
                rank = None if row["method"] == "FT" else TABLE_4_RANK
                cells = {(row["locale"], hours): row[f"{hours}h"] for hours in HOURS}
            else:
                cells = {(locale, HOURS[0]): row[locale] for locale in LOCALES}
            for cell, wer in cells.items():
                if wer:
                    found[Place(row["model"], row["method"], rank, *cell)] = float(wer)
    return found


def printed_name(table: int, run: Run) -> str | None:
    """What the paper calls the method of a run.

    Arguments
    ---------
    table : int
        2, 3 or 4.
    run : Run
        The run.

    Returns
    -------
    str or None
        None if it is not one of the paper's: it has neither rows of one length nor
        adapters that start from other languages.
    """
    if run.setting("row_norm") not in (None, "raw") or run.setting("init_from"):
        return None
    if run.method == "sumra" and table == 3:
        return f"SumRA ({run.setting('strategy')})"
    if run.method == "sumra" and table == 4:
        return "SumRA (freeze A)"
    return NAMES.get(run.method)


def printed_wer(table: int, run: Run) -> float | None:
    """The paper's WER for the model, method, rank, locale and hours of a run.

    Arguments
    ---------
    table : int
        2, 3 or 4.
    run : Run
        Our run.

    Returns
    -------
    float or None
        In percent; None if there is nothing to compare with. Hours of training data
        are those asked for: ia, fy-NL and kmr have fewer than ten to train on in the
        paper's release. Without training they do not matter.
    """
    name = printed_name(table, run)
    for hours in HOURS:
        same = run.train_hours == hours
        place = Place(run.model, name, run.rank, run.locale, hours)
        if (same or not run.is_adapted) and place in printed(table):
            return printed(table)[place]
    return None


def printed_change(table: int, run: Run) -> float | None:
    """The paper's relative change to LoRA of the same rank, for whisper-small.

    The context of runs that cannot be compared themselves.

    Arguments
    ---------
    table : int
        2 or 3.
    run : Run
        Our run, of any model and locale.

    Returns
    -------
    float or None
        In percent, the mean over the paper's five languages; None for LoRA itself, and
        if the paper has no such method and rank.
    """
    name = printed_name(table, run)
    if run.rank is None or name == BASELINE:
        return None
    changes = []
    for locale in LOCALES:
        place = Place(CONTEXT_MODEL, name, run.rank, locale, HOURS[0])
        wer = printed(table).get(place)
        baseline = printed(table).get(place._replace(method=BASELINE))
        if wer is None or baseline is None:
            return None
        changes.append(100 * (wer / baseline - 1))
    return sum(changes) / len(changes)
