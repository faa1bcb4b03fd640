"""The command ``python -m speechbrain_sumra.report.compare``."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from speechbrain_sumra.report.runs import Group, ReportError
from speechbrain_sumra.report.statistics import bootstrap_difference
from speechbrain_sumra.report.summaries import read_run
from speechbrain_sumra.report.table import grid

PROGRAM = "python -m speechbrain_sumra.report.compare"
DESCRIPTION = """\
Compares two settings, each given by its finished runs (one for each seed), which may
differ in anything but the test set: the mean WERs, their difference with its 95 %
interval (paired bootstrap over test utterances), and that relative to the second.

"capped" counts in no utterance more errors than words, so that a text that repeats
itself up to the limit of tokens weighs no more than any other that is wrong."""
EPILOG = """\
example:
  cd results/small
  python -m speechbrain_sumra.report.compare \\
      sumra_whisper_base/hsb/rank-32_train_hours-2_seed-* \\
      --with lora_whisper_base/hsb/rank-32_train_hours-2_seed-*

The exit status is 0 if both could be compared, 1 if not, and 2 if the command cannot be
understood."""


def compare(runs: Group, others: Group) -> list[dict]:
    """What tells two settings apart, in WER and in capped WER.

    Arguments
    ---------
    runs, others : Group
        Runs of the two, tested on the same utterances. The seeds of a group are
        averaged utterance by utterance; their numbers may differ.

    Returns
    -------
    list of dict
        Of each measure ("WER", "capped") the two means and their difference, in
        percent, ``low`` and ``high`` of its 95 % interval, and all three relative to
        the mean of ``others``, in percent of it.

    Raises
    ------
    ReportError
        If they were tested on different utterances.

    Example
    -------
    >>> from speechbrain_sumra.report.runs import Run
    >>> def group(*errors):
    ...     return Group((Run("", {"test_errors": errors, "test_words": [5, 5]}),))
    >>> wer, capped = compare(group(1, 40), group(2, 5))
    >>> wer["difference"], capped["difference"], round(capped["relative"], 1)
    (340.0, -10.0, -14.3)
    """
    if not np.array_equal(runs.words, others.words):
        raise ReportError(
            "Expected runs that were tested on the same utterances; their test_words "
            "differ. Compare runs of one locale and one release of its test set."
        )
    measures = {
        "WER": (runs.errors, others.errors),
        "capped": (runs.capped_errors, others.capped_errors),
    }
    return [_measure(name, *errors, runs.words) for name, errors in measures.items()]


def _measure(name: str, errors: np.ndarray, others: np.ndarray, words) -> dict:
    found = bootstrap_difference(errors, others, words)
    one, other = (100 * float(e.sum() / words.sum()) for e in (errors, others))
    return {
        "measure": name,
        "first": one,
        "second": other,
        "difference": found.value,
        "low": found.low,
        "high": found.high,
        "relative": _share(found.value, other),
        "relative_low": _share(found.low, other),
        "relative_high": _share(found.high, other),
    }


def _share(value: float, whole: float) -> float:
    return 100 * value / whole if whole else float("nan")


def read_group(paths: Sequence[Path]) -> Group:
    """Runs of one setting, from their folders or summaries.

    Arguments
    ---------
    paths : sequence of Path
        Folders with a summary.json, or such files.

    Returns
    -------
    Group
        The runs.

    Raises
    ------
    ReportError
        If one cannot be read, was not tested, or was on other utterances.
    """
    files = [path / "summary.json" if path.is_dir() else path for path in paths]
    runs = [read_run(file, file.parent) for file in files]
    for file, run in zip(files, runs, strict=True):
        if not run.is_tested:
            raise ReportError(f"{file} is of a sweep: it has no test_wer to compare.")
        if run.summary["test_words"] != runs[0].summary["test_words"]:
            raise ReportError(
                f"{files[0]} and {file} have other test_words, so they were not tested "
                "on the same utterances."
            )
    return Group(tuple(runs))


def _text(runs: Group, others: Group) -> str:
    """The comparison as it is printed."""
    columns = ["", "first", "second", "difference", "95 %", "relative", "95 %"]
    rows = [
        [
            row["measure"],
            f"{row['first']:.2f}",
            f"{row['second']:.2f}",
            f"{row['difference']:+.2f}",
            f"{row['low']:+.2f} to {row['high']:+.2f}",
            f"{row['relative']:+.1f} %",
            f"{row['relative_low']:+.1f} to {row['relative_high']:+.1f} %",
        ]
        for row in compare(runs, others)
    ]
    described = [_described("first", runs), _described("second", others)]
    return "\n".join([*described, "", grid(columns, rows)])


def _described(name: str, group: Group) -> str:
    wers = ", ".join(f"{wer:.2f}" for wer in group.wers)
    trained, size = group.largest("trained_parameters"), group.largest("adapter_bytes")
    return (
        f"{name + ':':<8}{group.run.method}, {len(group.runs)} run(s), WER {wers}; "
        f"{trained / 1e6:.2f} M trained, {size / 1e6:.2f} MB a language"
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Print the comparison that the command line asks for.

    Arguments
    ---------
    argv : sequence of str
        The arguments. Default: those of the process.

    Returns
    -------
    int
        The exit status.
    """
    parser = argparse.ArgumentParser(
        prog=PROGRAM,
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "runs", metavar="RUN", type=Path, nargs="+", help="folders of the first setting"
    )
    parser.add_argument(
        "--with",
        metavar="RUN",
        type=Path,
        nargs="+",
        required=True,
        dest="others",
        help="folders of the second, which the first is compared with",
    )
    arguments = parser.parse_args(argv)
    try:
        print(_text(read_group(arguments.runs), read_group(arguments.others)))
    except (ReportError, OSError) as error:
        print(f"{PROGRAM}: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
