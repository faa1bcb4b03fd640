"""The report itself: what stands in ``report.md``, and the files beside it."""

import logging
from pathlib import Path

from speechbrain_sumra.files import replacing, write_text
from speechbrain_sumra.report.layouts import layouts
from speechbrain_sumra.report.learning_rates import learning_rate_table
from speechbrain_sumra.report.plots import Plot, plots
from speechbrain_sumra.report.sections import (
    SORTING,
    endless_texts,
    facts,
    other_runs,
    plots_section,
    run_records,
    warnings,
)
from speechbrain_sumra.report.study import Study
from speechbrain_sumra.report.summaries import find_runs
from speechbrain_sumra.report.table import to_csv
from speechbrain_sumra.report.wer_table import wer_table

logger = logging.getLogger(__name__)


def write_report(
    results: str | Path, output: str | Path | None = None, baseline: str = "lora"
) -> Path:
    """Make tables and plots of all runs below a folder.

    Writes ``report.md``, a CSV file for each table, ``runs.csv`` and the plots. What an
    earlier report left there is replaced.

    Arguments
    ---------
    results : str or Path
        Where the runs are: summary.json at any depth.
    output : str or Path
        Where to write. Default: ``report`` in the folder of the results.
    baseline : str
        The method that others are compared with.

    Returns
    -------
    Path
        report.md.

    Raises
    ------
    ReportError
        If there are no runs, or some of them cannot be used.
    """
    study = Study(find_runs(results), baseline)
    output = Path(output) if output else Path(results) / "report"
    tables = [wer_table(layout) for layout in layouts(study)]
    tables.append(learning_rate_table(study))
    drawn = plots(study, tables[0].groups)
    for table in tables:
        _write_or_remove(output / f"{table.name}.csv", table.csv())
    for plot in drawn:
        _save_or_remove(output / f"{plot.name}.png", plot)
    write_text(output / "runs.csv", to_csv(run_records(study.runs, tables)))
    found = warnings(study)
    for warning in found:
        logger.warning(warning)
    parts = [
        f"# Report on {Path(results).resolve().name}",
        facts(study),
        *(f"**Warning:** {warning}" for warning in found),
        *(table.markdown() for table in tables),
        plots_section(drawn),
        endless_texts(study),
        other_runs(study, tables),
        SORTING,
    ]
    write_text(output / "report.md", "\n\n".join(parts) + "\n")
    return output / "report.md"


def _write_or_remove(path: Path, text: str) -> None:
    """No file of an earlier report stays where there is nothing to say now."""
    if text:
        write_text(path, text)
    else:
        path.unlink(missing_ok=True)


def _save_or_remove(path: Path, plot: Plot) -> None:
    if plot.figure is None:
        path.unlink(missing_ok=True)
        return
    with replacing(path) as partial:
        plot.figure.savefig(partial, format="png", dpi=120)
