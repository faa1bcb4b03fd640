"""The tables of WERs that a report has."""

import os
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass
from pathlib import PurePath

from speechbrain_sumra.report.runs import NAMES, Group, Run
from speechbrain_sumra.report.study import Study
from speechbrain_sumra.report.table import NOTHING


@dataclass(frozen=True)
class Layout:
    """What a table of WERs shows, and where.

    Attributes
    ----------
    name, title, about : str
        As of ``Table``.
    groups : list of Group
        What it shows. Of several groups for one cell, ``best_of`` chooses.
    heading, labels, column : callable
        Of a run: the part of the table that it stands in, what its row is called (a
        text by column), and its column: a locale or a number of hours.
    versus : str
        What rows are compared with.
    is_baseline : callable
        Of two runs: whether the first is compared with the second.
    contest : callable
        Of a run: in its column, it competes for "best" with those of equal value.
    paper_table : int or None
        The paper's table.
    """

    name: str
    title: str
    about: str
    groups: list[Group]
    heading: Callable[[Run], str]
    labels: Callable[[Run], dict[str, str]]
    column: Callable[[Run], str | float]
    versus: str
    is_baseline: Callable[[Run, Run], bool]
    contest: Callable[[Run], Hashable]
    paper_table: int | None = None


def method_name(method: str) -> str:
    """A method as tables and plots call it."""
    return NAMES.get(method, method)


def rank_text(run: Run) -> str:
    """The rank of a run, if it has one."""
    return NOTHING if run.rank is None else str(run.rank)


def short_names(paths: Iterable[str]) -> dict[str, str]:
    """What tells each path apart from the one that is most like it.

    Arguments
    ---------
    paths : iterable of str
        Paths, such as the folders of adapters that runs start from.

    Returns
    -------
    dict of str to str
        For each the first part, or as many as it takes for names to differ, after
        those that it has in common with that other; of an only one, the path itself.

    Example
    -------
    >>> short_names(["runs/near/sumra/rank-32", "runs/far/sumra/rank-32"])
    {'runs/far/sumra/rank-32': 'far', 'runs/near/sumra/rank-32': 'near'}
    """
    parts = {path: PurePath(path).parts for path in sorted(set(paths))}
    names = {path: path for path in parts}
    if len(parts) < 2:
        return names
    own = {path: _own_parts(path, parts) for path in parts}
    for count in range(max(map(len, own.values())), 0, -1):
        shorter = {path: "/".join(own[path][:count]) for path in parts}
        if len(set(shorter.values())) < len(shorter):
            break
        names = shorter
    return names


def _own_parts(path: str, parts: dict[str, tuple[str, ...]]) -> tuple[str, ...]:
    """What follows after the parts that the path nearest to it has as well."""
    shared = (
        len(os.path.commonprefix([parts[path], other]))
        for name, other in parts.items()
        if name != path
    )
    return parts[path][min(max(shared), len(parts[path]) - 1) :]


def layouts(study: Study) -> list[Layout]:
    """What Tables 2 to 5 show.

    Arguments
    ---------
    study : Study
        The runs.

    Returns
    -------
    list of Layout
        One for each table, also for those without runs.
    """
    baseline = method_name(study.baseline)
    starts = [run.summary["init_from"] for run in study.runs]
    names = short_names(start for start in starts if isinstance(start, str))

    def start(run: Run) -> str:
        told = run.setting("init_from")
        return names.get(told, told) or NOTHING

    def is_baseline(run: Run, other: Run) -> bool:
        return (
            other.method == study.baseline
            and _same(run, other)
            and run.train_hours == other.train_hours
            and not study.unusual(other)
        )

    return [
        Layout(
            name="table2",
            title="Table 2: methods",
            about="Every method with the usual settings and all training data.",
            groups=study.methods(),
            heading=lambda run: run.model,
            labels=_method,
            column=lambda run: run.locale,
            versus=baseline,
            is_baseline=is_baseline,
            contest=lambda run: run.model,
            paper_table=2,
        ),
        Layout(
            name="table3",
            title="Table 3: what A is made of",
            about="SumRA's strategies, with rows as long as their sums are (raw) or of "
            "one length, and adapters that start from other languages.",
            groups=study.strategies(),
            heading=lambda run: f"{run.model}, rank {run.rank}",
            labels=lambda run: {**_basis(run), "init_from": start(run)},
            column=lambda run: run.locale,
            versus=baseline,
            is_baseline=is_baseline,
            contest=lambda run: (run.model, run.rank),
            paper_table=3,
        ),
        Layout(
            name="table4",
            title="Table 4: more training data",
            about="SumRA with frozen and with trained A, for more and less data; also "
            "starting from other languages.",
            groups=study.hours(),
            heading=lambda run: f"{run.model}, {run.locale}",
            labels=lambda run: {**_method(run), "init_from": start(run)},
            column=lambda run: run.train_hours,
            versus=baseline,
            is_baseline=is_baseline,
            contest=lambda run: (run.model, run.locale),
            paper_table=4,
        ),
        Layout(
            name="table5",
            title="Table 5: choices",
            about="The language token in the prompt (new: a trained one; none; or an "
            "existing language's), whether norms are trained, how many of the last "
            "layers of the encoder are adapted beside the decoder, which linear layers "
            "of each, and how many checkpoints, the best by validation WER, are "
            "averaged for the test.",
            groups=study.choices(),
            heading=lambda run: run.model,
            labels=_prompt,
            column=lambda run: run.locale,
            versus="usual",
            is_baseline=lambda run, other: (
                run.method == other.method
                and _same(run, other)
                and not study.unusual(other)
            ),
            contest=lambda run: (run.model, run.method, run.rank),
        ),
    ]


def _same(run: Run, other: Run) -> bool:
    return (run.model, run.locale, run.rank) == (other.model, other.locale, other.rank)


def _method(run: Run) -> dict[str, str]:
    return {"method": method_name(run.method), "rank": rank_text(run)}


def _basis(run: Run) -> dict[str, str]:
    return {
        "method": method_name(run.method),
        "strategy": run.setting("strategy") or NOTHING,
        "row_norm": str(run.setting("row_norm") or NOTHING),
    }


def _prompt(run: Run) -> dict[str, str]:
    norms = "yes" if run.setting("train_norms") else "no"
    return {
        **_method(run),
        "language": run.setting("language"),
        "train_norms": norms,
        "adapted_encoder_layers": str(run.setting("adapted_encoder_layers")),
        "adapted_linears": run.setting("adapted_linears"),
        "avg_checkpoints": str(run.setting("avg_checkpoints")),
        "label_smoothing": f"{run.setting('label_smoothing'):g}",
    }
