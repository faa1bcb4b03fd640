"""What the plots of a report share: panels, colours, one legend."""

from collections.abc import Iterable

from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, NullFormatter

from speechbrain_sumra.report.layouts import method_name
from speechbrain_sumra.report.runs import NAMES, Group, method_order


def panel_figure(panels: dict) -> tuple[Figure | None, list[Axes]]:
    """A figure with a panel for each key, which is its title.

    Arguments
    ---------
    panels : dict
        What is drawn, by title.

    Returns
    -------
    figure : Figure or None
        None without panels.
    axes : list of Axes
        The panels.
    """
    if not panels:
        return None, []
    columns = 2 if len(panels) == 4 else min(3, len(panels))
    lines = -(-len(panels) // columns)
    figure = Figure(figsize=(5 * columns + 2, 4.5 * lines), layout="constrained")
    every = figure.subplots(lines, columns, squeeze=False).flatten().tolist()
    for axes in every[len(panels) :]:
        axes.remove()
    for axes, title in zip(every, panels, strict=False):
        axes.set_title(title)
    return figure, every[: len(panels)]


def colour(method: str) -> tuple:
    """A method has one colour in all plots; those without a name share one."""
    names = list(NAMES)
    return colour_of(names.index(method) if method in NAMES else len(names))


def colour_of(number: int) -> tuple:
    """Twenty colours, which then come again."""
    return colormaps["tab20"](number % 20)


def method_handles(groups: Iterable[Group]) -> list[Line2D]:
    """What tells methods apart, in the order of tables."""
    runs = sorted((group.run for group in groups), key=method_order)
    return [
        Line2D([], [], color=colour(method), label=method_name(method))
        for method in dict.fromkeys(run.method for run in runs)
    ]


def rank_handles(ranks: list[int | None], styles: list[dict]) -> list[Line2D]:
    """What tells ranks apart, in grey."""
    return [
        Line2D([], [], color="grey", label=f"rank {rank}", **styles[i % len(styles)])
        for i, rank in enumerate(ranks)
        if rank is not None
    ]


def add_legend(figure: Figure | None, *handles: list[Line2D]) -> None:
    """One legend beside all panels, where it hides nothing."""
    if figure is not None:
        every = [handle for some in handles for handle in some]
        figure.legend(handles=every, loc="outside right upper", fontsize="small")


def log_axis(axes: Axes) -> None:
    """A logarithmic x axis with plain numbers on it, also within one decade."""
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.tick_params(axis="x", labelsize="small")


def label_axes(axes: Axes, x: str, y: str) -> None:
    """Say what is on the axes, with units, and draw a grid."""
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.grid(alpha=0.3)
