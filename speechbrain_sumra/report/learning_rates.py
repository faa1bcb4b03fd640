"""The sweep: which learning rate each method is best at, on the development set."""

import math

from speechbrain_sumra.report.layouts import method_name, rank_text
from speechbrain_sumra.report.runs import Group, Run, method_order
from speechbrain_sumra.report.study import Study, describe
from speechbrain_sumra.report.table import NOTHING, Table

WARNING = "⚠"


def learning_rate_table(study: Study) -> Table:
    """Lowest validation loss at each learning rate of the runs of sweeps.

    Arguments
    ---------
    study : Study
        The runs.

    Returns
    -------
    Table
        Without blocks if there was no sweep. A learning rate at the edge of those
        that were tried, or another one in the tested runs, is marked.
    """
    table = Table(
        "learning_rates",
        "Learning rates",
        "Lowest validation loss (nats a token) of the runs of sweeps, which are not "
        "tested.",
        notes=[
            "**Lowest** of a row, the learning rate that is chosen; mean over seeds. "
            f"{NOTHING}: not run; diverged: no finite loss.",
            f"{WARNING} edge: the lowest loss is at the smallest or largest learning "
            "rate that was tried, so a better one may lie beyond.",
            f"tested: the learning rates of the tested runs of this method, rank and "
            f"locale; {WARNING} if the chosen one is not among them.",
        ],
        groups=study.sweeps,
    )
    sweeps: dict[tuple, dict[float, Group]] = {}
    for group in sorted(study.sweeps, key=lambda group: _order(group.run)):
        run = group.run
        heading = f"{run.model}, {run.locale}"
        of_row = sweeps.setdefault((heading, run.key("lr")), {})
        of_row[run.lr] = group
    for heading in dict.fromkeys(heading for heading, _ in sweeps):
        rows = [by_lr for (name, _), by_lr in sweeps.items() if name == heading]
        grid = sorted({lr for by_lr in rows for lr in by_lr})
        columns = ["method", "rank", "settings", *(f"{lr:g}" for lr in grid)]
        lines = [_line(study, by_lr, grid) for by_lr in rows]
        table.blocks.append((heading, [*columns, "chosen", "tested"], lines))
        table.records += [record for by_lr in rows for record in _records(study, by_lr)]
    return table


def chosen(by_lr: dict[float, Group]) -> float | None:
    """The learning rate of the lowest validation loss.

    Arguments
    ---------
    by_lr : dict of float to Group
        Runs that differ in the learning rate, and in the seed.

    Returns
    -------
    float or None
        The smaller of a tie; None if all diverged.
    """
    lr = min(sorted(by_lr), key=lambda lr: by_lr[lr].valid_loss)
    return lr if math.isfinite(by_lr[lr].valid_loss) else None


def at_edge(by_lr: dict[float, Group]) -> bool:
    """Whether the chosen learning rate is the smallest or the largest one."""
    return chosen(by_lr) in (min(by_lr), max(by_lr))


def _order(run: Run) -> tuple:
    return run.model, run.locale, method_order(run), run.rank or 0, run.key()


def _tested(study: Study, run: Run) -> list[float]:
    """Learning rates of tested runs that are like a run of a sweep."""
    return sorted(
        {
            group.run.lr
            for group in study.groups
            if (group.run.model, group.run.locale) == (run.model, run.locale)
            and (group.run.method, group.run.rank) == (run.method, run.rank)
            and study.unusual(group.run) == study.unusual(run)
        }
    )


def _settings(study: Study, run: Run) -> str:
    length = {name: run.summary[name] for name in ("train_hours", "number_of_epochs")}
    return describe({**study.unusual(run), **length})


def _line(study: Study, by_lr: dict[float, Group], grid: list[float]) -> list[str]:
    run = next(iter(by_lr.values())).run
    best = chosen(by_lr)
    line = [method_name(run.method), rank_text(run), _settings(study, run)]
    for lr in grid:
        loss = by_lr[lr].valid_loss if lr in by_lr else None
        text = NOTHING if loss is None else "diverged"
        if loss is not None and math.isfinite(loss):
            text = f"**{loss:.4f}**" if lr == best else f"{loss:.4f}"
        line.append(text)
    edge = f" {WARNING} edge" if at_edge(by_lr) else ""
    tested = _tested(study, run)
    other = f" {WARNING}" if tested and best not in tested else ""
    line.append(NOTHING if best is None else f"{best:g}{edge}")
    line.append((", ".join(f"{lr:g}" for lr in tested) or NOTHING) + other)
    return line


def _records(study: Study, by_lr: dict[float, Group]) -> list[dict]:
    """A row for each learning rate."""
    tested = _tested(study, next(iter(by_lr.values())).run)
    return [
        {
            "model": group.run.model,
            "locale": group.run.locale,
            "method": method_name(group.run.method),
            "rank": group.run.rank,
            "settings": _settings(study, group.run),
            "lr": lr,
            "seeds": len(group.runs),
            "best_valid_loss": round(group.valid_loss, 6),
            "chosen": lr == chosen(by_lr),
            "at_edge": lr == chosen(by_lr) and at_edge(by_lr),
            "tested": lr in tested,
            "summaries": group.paths,
        }
        for lr, group in sorted(by_lr.items())
    ]
