"""The plots of a report."""

import math
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from speechbrain_sumra.allocation import SLICE
from speechbrain_sumra.report.layouts import method_name
from speechbrain_sumra.report.panels import (
    add_legend,
    colour,
    colour_of,
    label_axes,
    log_axis,
    method_handles,
    panel_figure,
    rank_handles,
)
from speechbrain_sumra.report.runs import Group, Run, method_order
from speechbrain_sumra.report.statistics import mean_interval
from speechbrain_sumra.report.study import Study, describe

LOAD = "row_load_over_bound"
MARKERS = "osD^vPX*"
RANK_MARKERS = [{"marker": marker, "linestyle": ""} for marker in MARKERS]
HEADROOM = 1.0  # nats a token


@dataclass(frozen=True)
class Plot:
    """A plot, or why there is none.

    Attributes
    ----------
    name : str
        Of its PNG file.
    title : str
        What it shows.
    figure : Figure or None
        The plot.
    missing : str
        What it would need, if there is none.
    """

    name: str
    title: str
    figure: Figure | None
    missing: str


def plots(study: Study, table2: list[Group]) -> list[Plot]:
    """All plots of a report.

    Arguments
    ---------
    study : Study
        The runs.
    table2 : list of Group
        Those of Table 2.

    Returns
    -------
    list of Plot
        Also those that cannot be made.
    """
    adapted = [group for group in table2 if group.run.is_adapted]
    none = "no tested run with the usual settings"
    return [
        Plot(
            "wer_by_parameters",
            "WER and trained parameters",
            wer_by_cost(table2, "trained_parameters", 1e6, "trained parameters (M)"),
            none,
        ),
        Plot(
            "wer_by_bytes",
            "WER and stored bytes per language",
            wer_by_cost(table2, "adapter_bytes", 1e6, "stored per language (MB)"),
            none,
        ),
        Plot(
            "by_learning_rate",
            "Validation loss and WER at each learning rate (losses up to "
            f"{HEADROOM:g} above the lowest)",
            by_learning_rate(study),
            "neither a sweep nor a tested run with the usual settings",
        ),
        Plot("learning_curves", "Learning curves", learning_curves(adapted), none),
        Plot(
            "row_loads",
            "Row loads of SumRA's strategies",
            row_loads(study.runs),
            f"no run whose largest_basis_figures have {LOAD}",
        ),
    ]


def wer_by_cost(
    groups: list[Group], figure_name: str, unit: float, label: str
) -> Figure | None:
    """WER against what a method costs, a panel for each model and locale.

    Arguments
    ---------
    groups : list of Group
        Tested runs. Ranks of a method are joined by a line.
    figure_name : str
        The cost: a figure of the summary.
    unit : float
        What it is divided by.
    label : str
        Its name and unit.

    Returns
    -------
    Figure or None
        None without adapted runs.
    """
    adapted = [group for group in groups if group.run.is_adapted]
    # Where Whisper starts is often far above what methods reach: in the titles.
    starts = {_place(g.run): g.wers[0] for g in groups if not g.run.is_adapted}
    panels = _by(adapted, _place)
    ranks = _ranks(adapted)
    figure, all_axes = panel_figure(panels)
    for axes, (place, inside) in zip(all_axes, panels.items(), strict=True):
        for method, of_method in _by(inside, lambda run: run.method).items():
            in_colour = colour(method)
            costs = [group.largest(figure_name) / unit for group in of_method]
            wers = [mean_interval(group.wers) for group in of_method]
            axes.plot(costs, [mean for mean, _ in wers], color=in_colour, linewidth=1)
            for group, cost, (mean, half) in zip(of_method, costs, wers, strict=True):
                axes.errorbar(cost, mean, half, capsize=3, **_style(group, ranks))
        log_axis(axes)
        label_axes(axes, label, "test WER (%)")
        if place in starts:
            axes.set_title(f"{place} (unadapted: {starts[place]:.1f} %)")
    add_legend(figure, method_handles(adapted), rank_handles(ranks, RANK_MARKERS))
    return figure


def by_learning_rate(study: Study) -> Figure | None:
    """Validation loss of sweeps and WER of tested runs against the learning rate.

    Losses more than ``HEADROOM`` above the lowest of a model and locale are cut off:
    what diverges would flatten all else.

    Arguments
    ---------
    study : Study
        The runs. Tested ones are those with the usual settings.

    Returns
    -------
    Figure or None
        A panel for each model, locale and method that was swept, one more for its
        unusual settings, and for each model and locale one with the tested runs; None
        without runs.
    """
    tested = [group for group in study.methods() if group.run.is_adapted]

    def swept(run: Run) -> str:
        settings = ", other settings" if study.unusual(run) else ""
        return f"{_place(run)}: {method_name(run.method)}{settings}"

    sweeps = _by(study.sweeps, swept)
    lowest: dict[str, float] = {}
    for group in study.sweeps:
        place = _place(group.run)
        lowest[place] = min(group.valid_loss, lowest.get(place, math.inf))
    tests = _by(tested, lambda run: f"{_place(run)}: tested")
    figure, all_axes = panel_figure({**sweeps, **tests})
    for axes, groups in zip(all_axes, sweeps.values(), strict=False):
        _draw_sweep(axes, groups, study)
        best = lowest[_place(groups[0].run)]
        if math.isfinite(best):
            axes.set_ylim(best - 0.05 * HEADROOM, best + HEADROOM)
    ranks = _ranks(tested)
    for axes, groups in zip(all_axes[len(sweeps) :], tests.values(), strict=True):
        for group in groups:
            wer, _ = mean_interval(group.wers)
            axes.plot(group.run.lr, wer, **_style(group, ranks))
        log_axis(axes)
        label_axes(axes, "learning rate", "test WER (%)")
    add_legend(figure, method_handles(tested), rank_handles(ranks, RANK_MARKERS))
    return figure


def _draw_sweep(axes: Axes, groups: list[Group], study: Study) -> None:
    """A line for each rank and setting, named within the panel."""
    for number, series in enumerate(_by(groups, lambda run: run.key("lr")).values()):
        run = series[0].run
        series = sorted(series, key=lambda group: group.run.lr)
        rank = "" if run.rank is None else f"rank {run.rank}"
        name = ", ".join(filter(None, [describe(study.unusual(run)), rank]))
        rates = [group.run.lr for group in series]
        losses = [group.valid_loss for group in series]
        style = {"marker": MARKERS[number % len(MARKERS)], "markersize": 4}
        axes.plot(rates, losses, color=colour_of(number), label=name, **style)
    if any(group.run.rank is not None for group in groups):
        axes.legend(fontsize="x-small")
    log_axis(axes)
    label_axes(axes, "learning rate", "lowest validation loss (nats a token)")


def learning_curves(groups: list[Group]) -> Figure | None:
    """Validation loss of every run over the epochs.

    Arguments
    ---------
    groups : list of Group
        Adapted runs.

    Returns
    -------
    Figure or None
        A panel for each model, locale and rank, with methods without rank in each;
        None if there are no validations.
    """
    groups = [g for g in groups if any(run.summary["validations"] for run in g.runs)]
    panels: dict[str, list[Group]] = {}
    for place, inside in _by(groups, _place).items():
        of_rank = _by(inside, lambda run: run.rank)
        without = of_rank.pop(None, [])
        for rank, with_rank in of_rank.items():
            panels[f"{place}, rank {rank}"] = [*without, *with_rank]
        if not of_rank:
            panels[place] = without
    figure, all_axes = panel_figure(panels)
    for axes, inside in zip(all_axes, panels.values(), strict=True):
        for run in (run for group in inside for run in group.runs):
            records = run.summary["validations"]
            epochs = [record["epoch"] for record in records]
            losses = [record["valid_loss"] for record in records]
            axes.plot(epochs, losses, linewidth=1, color=colour(run.method))
        label_axes(axes, "epochs", "validation loss (nats a token)")
    add_legend(figure, method_handles(groups))
    return figure


def row_loads(runs: Iterable[Run]) -> Figure | None:
    """The largest row load over its lower bound, a bar for each strategy and rank.

    Arguments
    ---------
    runs : iterable of Run
        All runs; those of one basis have one value.

    Returns
    -------
    Figure or None
        A panel for each model; None if no run has such a figure.
    """
    loads: dict[str, dict[tuple, float]] = {}
    for run in runs:
        load = run.summary["largest_basis_figures"].get(LOAD)
        strategy = run.setting("strategy")
        # A slice has one singular vector a row: nothing is summed.
        if load is not None and strategy and not SLICE.fullmatch(strategy):
            bars = loads.setdefault(run.model, {})
            bar = run.rank, strategy
            bars[bar] = max(load, bars.get(bar, 0.0))
    figure, all_axes = panel_figure(loads)
    for axes, bars in zip(all_axes, loads.values(), strict=True):
        bars = dict(sorted(bars.items()))
        labels = [f"{strategy}, rank {rank}" for rank, strategy in bars]
        drawn = axes.barh(labels, list(bars.values()), color="tab:blue")
        axes.bar_label(drawn, fmt="%.3f", padding=3, fontsize="small")
        axes.axvline(1, color="black", linewidth=1)
        axes.invert_yaxis()
        axes.margins(x=0.15)
        label_axes(axes, "largest row load / lower bound of any allocation", "")
    add_legend(figure, [Line2D([], [], color="black", label="lower bound")])
    return figure


def _style(group: Group, ranks: list[int | None]) -> dict:
    """A point of a method and a rank."""
    marker = RANK_MARKERS[ranks.index(group.run.rank) % len(RANK_MARKERS)]
    return {"color": colour(group.run.method), **marker}


def _place(run: Run) -> str:
    return f"{run.model}, {run.locale}"


def _by(groups: Iterable[Group], key: Callable[[Run], Hashable]) -> dict:
    """Groups by a property of their runs, in the order of tables."""

    def order(group: Group) -> tuple:
        return _place(group.run), group.run.rank or 0, method_order(group.run)

    found: dict = {}
    for group in sorted(groups, key=order):
        found.setdefault(key(group.run), []).append(group)
    return found


def _ranks(groups: Iterable[Group]) -> list[int | None]:
    return sorted({group.run.rank for group in groups}, key=lambda rank: rank or 0)
