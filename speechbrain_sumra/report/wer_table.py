"""Tables of WERs: what is compared with what, and what is said of it."""

from dataclasses import dataclass

from speechbrain_sumra.report import paper
from speechbrain_sumra.report.layouts import Layout
from speechbrain_sumra.report.runs import Group, Run, method_order
from speechbrain_sumra.report.statistics import (
    RESAMPLES,
    bootstrap_difference,
    mean_interval,
)
from speechbrain_sumra.report.study import best_of
from speechbrain_sumra.report.table import NOTHING, Table

MARKS = {"best": "**{}**", "second": "<u>{}</u>", "": "{}"}


class Cell:
    """What a table says of a group of runs.

    Arguments
    ---------
    group : Group
        The runs.
    baseline : Group or None
        What they are compared with, tested on the same utterances.
    paper_table : int or None
        The paper's table.
    """

    def __init__(self, group: Group, baseline: Group | None, paper_table: int | None):
        self.group = group
        self.baseline = baseline
        self.mark = ""
        self.wer, self.half = mean_interval(group.wers)
        self.change = self.difference = self.paper_wer = self.paper_change = None
        if baseline is not None:
            wer, _ = mean_interval(baseline.wers)
            self.change = 100 * (self.wer / wer - 1) if wer else None
            self.difference = bootstrap_difference(
                group.errors, baseline.errors, group.words
            )
        if paper_table is not None:
            self.paper_wer = paper.printed_wer(paper_table, group.run)
            self.paper_change = paper.printed_change(paper_table, group.run)

    def wer_text(self) -> str:
        """WER and its interval, marked if it is best or second."""
        half = NOTHING if self.half is None else f"{self.half:.2f}"
        return MARKS[self.mark].format(f"{self.wer:.2f} ± {half}")

    def change_text(self) -> str:
        """Relative change to the baseline, and the interval of the difference."""
        if self.difference is None or self.change is None:
            return NOTHING
        low, high = self.difference.low, self.difference.high
        sign = " †" if self.difference.excludes_zero else ""
        return f"{self.change:+.1f} % [{low:+.2f}, {high:+.2f}]{sign}"

    def record(self, labels: dict[str, str]) -> dict:
        """The cell as a row of a CSV file."""
        run, difference = self.group.run, self.difference
        return {
            "model": run.model,
            "locale": run.locale,
            "train_hours": run.train_hours,
            **{name: "" if text == NOTHING else text for name, text in labels.items()},
            "rank": run.rank,
            "trained_parameters": self.group.largest("trained_parameters"),
            "bytes_per_language": self.group.largest("adapter_bytes"),
            "lr": run.lr,
            "seeds": len(self.group.runs),
            "wer": _rounded(self.wer),
            "half_interval": _rounded(self.half),
            "change_percent": _rounded(self.change),
            "difference": _rounded(difference and difference.value),
            "difference_low": _rounded(difference and difference.low),
            "difference_high": _rounded(difference and difference.high),
            "excludes_zero": difference and difference.excludes_zero,
            "paper_wer": self.paper_wer,
            "paper_change_percent": _rounded(self.paper_change),
            "mark": self.mark,
            "summaries": self.group.paths,
            "baseline_summaries": self.baseline and self.baseline.paths,
        }


@dataclass
class Row:
    """Cells of a row by column."""

    heading: str
    labels: dict[str, str]
    cells: dict[str | float, Cell]


def wer_table(layout: Layout) -> Table:
    """Fill a table of WERs.

    Arguments
    ---------
    layout : Layout
        What it shows.

    Returns
    -------
    Table
        Without blocks if there are no runs.
    """
    rows = _rows(layout)
    _mark(rows, layout)
    table = Table(layout.name, layout.title, layout.about, notes=_notes(rows, layout))
    for heading, block in _blocks(rows):
        table.blocks.append((heading, *_markdown_cells(block, layout)))
    for row in rows:
        table.records += [cell.record(row.labels) for cell in row.cells.values()]
        table.groups += [cell.group for cell in row.cells.values()]
    return table


def _rows(layout: Layout) -> list[Row]:
    competing: dict[tuple, list[Group]] = {}
    for group in layout.groups:
        place = (*_row_key(layout, group.run), layout.column(group.run))
        competing.setdefault(place, []).append(group)
    shown = [best_of(groups) for groups in competing.values()]
    shown.sort(key=lambda group: _order(layout, group.run))
    rows: dict[tuple, Row] = {}
    for group in shown:
        run = group.run
        baseline = next(
            (
                other
                for other in shown
                if other is not group
                and layout.is_baseline(run, other.run)
                and other.run.summary["data_hash"] == run.summary["data_hash"]
            ),
            None,
        )
        row = rows.setdefault(
            _row_key(layout, run), Row(layout.heading(run), layout.labels(run), {})
        )
        row.cells[layout.column(run)] = Cell(group, baseline, layout.paper_table)
    return list(rows.values())


def _row_key(layout: Layout, run: Run) -> tuple[str, ...]:
    return (layout.heading(run), *layout.labels(run).values())


def _order(layout: Layout, run: Run) -> tuple:
    """By part of the table, rank, method, and the rest of the row's name."""
    place = layout.heading(run), run.rank or 0, method_order(run)
    return (*place, *layout.labels(run).values())


def _blocks(rows: list[Row]) -> list[tuple[str, list[Row]]]:
    """Rows by heading."""
    headings = dict.fromkeys(row.heading for row in rows)
    return [(h, [row for row in rows if row.heading == h]) for h in headings]


def _mark(rows: list[Row], layout: Layout) -> None:
    """Mark the lowest and second lowest WER, as printed, where there are several."""
    contests: dict[tuple, list[Cell]] = {}
    for column, cell in ((c, cell) for row in rows for c, cell in row.cells.items()):
        if cell.group.run.is_adapted:
            contest = column, layout.contest(cell.group.run)
            contests.setdefault(contest, []).append(cell)
    for cells in contests.values():
        places = sorted({round(cell.wer, 2) for cell in cells})
        marks = dict(zip(places, ("best", "second"), strict=False))
        if len(cells) > 1:
            for cell in cells:
                cell.mark = marks.get(round(cell.wer, 2), "")


def _markdown_cells(
    rows: list[Row], layout: Layout
) -> tuple[list[str], list[list[str]]]:
    """Names of columns and rows of one part of a table."""
    columns = sorted({column for row in rows for column in row.cells})
    with_paper = {
        column
        for row in rows
        for column, cell in row.cells.items()
        if cell.paper_wer is not None
    }
    with_context = _shows_context(rows)
    header = [*rows[0].labels, "trained, M", "MB a language", "lr", "seeds"]
    for column in columns:
        name = _column_name(column)
        header += [f"{name} WER", f"{name} vs. {layout.versus}"]
        header += [f"{name} paper"] * (column in with_paper)
    header += [f"paper vs. {paper.BASELINE}"] * with_context
    lines = []
    for row in rows:
        line = [*row.labels.values(), *_figures(row)]
        for column in columns:
            cell = row.cells.get(column)
            line += [cell.wer_text(), cell.change_text()] if cell else [NOTHING] * 2
            if column in with_paper:
                line.append(_or_nothing(cell and cell.paper_wer, "{:.2f}"))
        if with_context:
            line.append(_or_nothing(_context(row), "{:+.1f} %"))
        lines.append(line)
    return header, lines


def _figures(row: Row) -> list[str]:
    """Parameters, size, learning rate and seeds; by column where these differ."""
    groups = {column: cell.group for column, cell in row.cells.items()}
    texts = (
        lambda group: f"{group.largest('trained_parameters') / 1e6:.2f}",
        lambda group: f"{group.largest('adapter_bytes') / 1e6:.2f}",
        lambda group: f"{group.run.lr:g}" if group.run.is_adapted else NOTHING,
        lambda group: str(len(group.runs)),
    )
    return [
        _by_column({c: text(group) for c, group in groups.items()}) for text in texts
    ]


def _by_column(texts: dict[str | float, str]) -> str:
    """One text if all are the same, else each with its column."""
    if len(set(texts.values())) == 1:
        return next(iter(texts.values()))
    return ", ".join(
        f"{_column_name(column)}: {texts[column]}" for column in sorted(texts)
    )


def _column_name(column: str | float) -> str:
    return column if isinstance(column, str) else f"{column:g} h"


def _context(row: Row) -> float | None:
    return next(iter(row.cells.values())).paper_change


def _or_nothing(value: float | None, form: str) -> str:
    return NOTHING if value is None else form.format(value)


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)


def _shows_context(rows: list[Row]) -> bool:
    """Whether the paper's own changes stand beside rows that it cannot be held to."""
    cells = [cell for row in rows for cell in row.cells.values()]
    compared = any(cell.paper_wer is not None for cell in cells)
    return not compared and any(cell.paper_change is not None for cell in cells)


def _less_speech(rows: list[Row]) -> list[str]:
    """How much there was to train on, if less than asked for, beside the paper's."""
    runs = [
        cell.group.run
        for row in rows
        for cell in row.cells.values()
        if cell.paper_wer is not None and cell.group.run.is_adapted
    ]
    less = {
        f"{run.locale} {run.summary['train_hours_kept']:.2f} of {run.train_hours:g} h"
        for run in runs
        if run.summary["train_hours_kept"] < 0.9 * run.train_hours
    }
    told = f"Ours had less speech than asked for: {', '.join(sorted(less))}."
    return [told] if less else []


def _notes(rows: list[Row], layout: Layout) -> list[str]:
    notes = [
        "WER in percent: mean over seeds ± half of the 95 % t-interval "
        f"({NOTHING}: one seed). **Best** and <u>second best</u> of what was adapted.",
        f"vs. {layout.versus}: relative change of the WER, and in brackets the 95 % "
        "interval of the difference in points (paired bootstrap over test utterances, "
        f"{RESAMPLES:,} draws; † without 0). It leaves out chance in training.",
    ]
    if layout.paper_table is None:
        return notes
    scope = f"The paper's figures are of {paper.SCOPE[layout.paper_table]}"
    if any(cell.paper_wer is not None for row in rows for cell in row.cells.values()):
        notes.append(
            f"{scope}, of {paper.RELEASE} by the size that it gives; they stand beside "
            "ours where model, method, rank, locale and hours asked for agree. Its FT "
            "trains the encoder, too."
        )
        notes += _less_speech(rows)
    else:
        notes.append(f"{scope}; none is comparable with ours.")
    if any(_shows_context(block) for _, block in _blocks(rows)):
        notes.append(
            f"paper vs. {paper.BASELINE}: for context, the paper's own relative change "
            f"with {paper.CONTEXT_MODEL}, mean over its five languages."
        )
    return notes
