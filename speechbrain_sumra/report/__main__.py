"""The command ``python -m speechbrain_sumra.report``."""

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from speechbrain_sumra.report.document import write_report
from speechbrain_sumra.report.runs import NAMES, ReportError

DESCRIPTION = """\
Tables and plots of all finished runs below a folder.

Reads every summary.json at any depth and sorts the runs into tables by their settings,
not by the names of their folders:

  table2.csv          methods, ranks and locales
  table3.csv          what SumRA's A is made of
  table4.csv          more and less training data
  table5.csv          language tokens and trained norms
  learning_rates.csv  the sweep: validation loss at each learning rate
  runs.csv            every run, with the tables that it stands in
  *.png               WER against parameters, bytes and learning rate; learning curves;
                      row loads
  report.md           all of it, beside the paper's figures where they are comparable

Runs that differ in their seed alone are one figure: the mean, and a 95 % t-interval.
Differences are given a 95 % interval by a paired bootstrap over test utterances. Every
line of a CSV file names the summaries that it comes from."""
EPILOG = """\
examples:
  python -m speechbrain_sumra.report results/small
  python -m speechbrain_sumra.report runs --output report --baseline lora_fa

The exit status is 0 if the report was written, 1 if there is nothing to report or a
summary cannot be used, and 2 if the command cannot be understood."""


def main(argv: Sequence[str] | None = None) -> int:
    """Write the report that the command line asks for.

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
        prog="python -m speechbrain_sumra.report",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "results", metavar="RESULTS", type=Path, help="the folder of the runs"
    )
    parser.add_argument(
        "--output",
        metavar="DIR",
        type=Path,
        help="where to write (default: report/ in RESULTS)",
    )
    parser.add_argument(
        "--baseline",
        metavar="METHOD",
        default="lora",
        help=f"what others are compared with: {', '.join(NAMES)}, or the name of an "
        "experiment of your own (default: %(default)s)",
    )
    arguments = parser.parse_args(argv)
    logging.basicConfig(format="%(levelname)s: %(message)s")
    try:
        path = write_report(arguments.results, arguments.output, arguments.baseline)
    except (ReportError, OSError) as error:
        print(f"{parser.prog}: {error}", file=sys.stderr)
        return 1
    print(path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
