"""A table as Markdown and as CSV."""

import csv
import io
from collections.abc import Iterable
from dataclasses import dataclass, field

from speechbrain_sumra.report.runs import Group

NOTHING = "–"


def grid(columns: list[str], rows: Iterable[list[str]]) -> str:
    """A Markdown table; what is in a cell cannot break it.

    Example
    -------
    >>> print(grid(["method", "WER"], [["a|b", "1"]]))
    | method | WER |
    |---|---|
    | a\\|b | 1 |
    """
    lines = [
        [" ".join(cell.replace("|", r"\|").split()) for cell in line]
        for line in (columns, *rows)
    ]
    head, *body = [f"| {' | '.join(line)} |" for line in lines]
    return "\n".join([head, "|" + "---|" * len(columns), *body])


def to_csv(records: list[dict]) -> str:
    """Rows as CSV, with the names of the columns that the first one has."""
    text = io.StringIO()
    if records:
        writer = csv.DictWriter(text, list(records[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(records)
    return text.getvalue()


@dataclass
class Table:
    """A table, ready to be written.

    Attributes
    ----------
    name : str
        Of its CSV file.
    title, about : str
        A heading, and what the table shows.
    blocks : list of tuple
        Parts of the Markdown table: heading, names of columns, rows of cells.
    records : list of dict
        Rows of the CSV file; "summaries" are the paths of the runs behind one.
    notes : list of str
        What must be known to read it.
    groups : list of Group
        The runs that it shows.
    """

    name: str
    title: str
    about: str
    blocks: list[tuple[str, list[str], list[list[str]]]] = field(default_factory=list)
    records: list[dict] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    groups: list[Group] = field(default_factory=list)

    def markdown(self) -> str:
        """The table in Markdown, with its notes; a sentence if it is empty."""
        parts = [f"## {self.title}", self.about]
        for heading, columns, rows in self.blocks:
            parts += [f"### {heading}", grid(columns, rows)]
        if not self.blocks:
            parts.append("No runs for this table.")
        elif self.notes:
            parts.append("\n".join(f"- {note}" for note in self.notes))
        return "\n\n".join(parts)

    def csv(self) -> str:
        """The table as CSV."""
        return to_csv(self.records)
