"""The learning rate of each group of runs: what is tried, and what is chosen.

> python workflow/learning_rates.py LR_JSON SUMMARY_JSON ...
"""

import json
import math
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

from run import ConfigError, Run, as_text, check_names, label, tuned_settings

# Losses are enough to choose a learning rate.
LOSSES_ALONE = {"decode": False, "score_unadapted": False}


def sweep_runs(run: Run, sweep: Mapping) -> dict[str, Run]:
    """A run for each learning rate that is tried for a run's group.

    Arguments
    ---------
    run : Run
        One of the group.
    sweep : mapping
        "lr": a list of grids, and settings that all these runs have, such as the
        locale. A grid has "values" and conditions: settings with a value or a list
        of values. The last grid whose conditions the run meets counts.

    Returns
    -------
    dict of str to Run
        By id.

    Raises
    ------
    ConfigError
        If the locale is missing, a setting unknown, or no grid usable.
    """
    missing = sorted({"locale", "lr"} - set(sweep))
    if missing:
        raise ConfigError(
            f"No learning rate for {run.group}: expected {' and '.join(missing)} under "
            "sweep, or an lr in the entry of the run."
        )
    common = {name: value for name, value in sweep.items() if name != "lr"}
    check_names(common, run.method, run.model)
    own = tuned_settings(run.settings)
    runs = {}
    for rate in _grid(run, sweep["lr"]):
        name = f"sweep/{run.group}/{label({'lr': rate})}"
        settings = {**own, **common, **LOSSES_ALONE, "lr": rate}
        runs[name] = Run(name, run.method, run.model, settings)
    return runs


def _grid(run: Run, grids: list[Mapping]) -> list[float]:
    """Values of the last grid whose conditions the run meets."""
    rates = []
    for grid in grids:
        conditions = {k: v for k, v in grid.items() if k != "values"}
        if all(run[name] in _listed(value) for name, value in conditions.items()):
            rates = grid.get("values") or []
    texts = [rate for rate in rates if isinstance(rate, str)]
    if texts:
        raise ConfigError(
            f"YAML reads the learning rate {texts[0]} as text: write it as 0.0001."
        )
    if len(set(rates)) < 2:
        raise ConfigError(
            f"Expected two or more learning rates for {run.group} under sweep: lr, "
            f"found {rates}."
        )
    return sorted(set(rates))


def _listed(value) -> list:
    return value if isinstance(value, list) else [value]


def choose_learning_rate(summaries: Iterable[str | Path]) -> dict:
    """The learning rate of the lowest validation loss.

    Arguments
    ---------
    summaries : iterable of str or Path
        summary.json of each run of a sweep; of one that diverged it has "lr" alone,
        or no finite "best_valid_loss", or 0: SpeechBrain's mean leaves out what is not
        finite.

    Returns
    -------
    dict
        "lr"; "losses": [lr, loss] of each run, loss None if it diverged; "at_edge":
        whether it is the lowest or highest that was tried.

    Raises
    ------
    ValueError
        If all diverged.
    """
    losses = []
    for path in summaries:
        summary = json.loads(Path(path).read_text(encoding="utf-8"))
        loss = summary.get("best_valid_loss")
        usable = loss is not None and 0 < loss < math.inf
        losses.append([summary["lr"], loss if usable else None])
    losses.sort(key=lambda pair: pair[0])
    tried = [rate for rate, loss in losses if loss is not None]
    if not tried:
        rates = ", ".join(as_text(rate) for rate, _ in losses)
        raise ValueError(
            f"All runs diverged, at the learning rates {rates}: add lower."
        )
    best = min(tried, key=dict(map(tuple, losses)).__getitem__)
    return {
        "lr": best,
        "losses": losses,
        "at_edge": best in (losses[0][0], losses[-1][0]),
    }


def main(arguments: list[str]) -> None:
    """Write what a sweep has shown."""
    from speechbrain_sumra.files import write_text

    target, *summaries = arguments
    write_text(target, json.dumps(choose_learning_rate(summaries), indent=2) + "\n")


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except ValueError as error:
        sys.exit(f"ValueError: {error}")
