"""Plots show every method once, with units; what cannot be drawn has a reason."""

import pytest

from speechbrain_sumra.report.plots import plots
from speechbrain_sumra.report.study import Study
from speechbrain_sumra.report.summaries import find_runs

NAMES = (
    "wer_by_parameters",
    "wer_by_bytes",
    "by_learning_rate",
    "learning_curves",
    "row_loads",
)
LOAD = {"row_load_over_bound": 1.25}


def draw(results):
    study = Study(find_runs(results))
    return {plot.name: plot.figure for plot in plots(study, study.methods())}


def legend(figure):
    (found,) = figure.legends
    return [text.get_text() for text in found.get_texts()]


@pytest.fixture
def figures(results, add_run):
    add_run("unadapted")
    for rank in (2, 32):
        add_run("lora", rank=rank)
        add_run("sumra", rank=rank, largest_basis_figures=LOAD)
    add_run("sumra", adapter={"strategy": "slice:0"}, largest_basis_figures=LOAD)
    for lr in (1e-4, 1e-3):
        add_run(errors=None, lr=lr, best_valid_loss=1.5)
    return draw(results)


def test_all_plots_can_be_drawn(figures, tmp_path):
    assert tuple(figures) == NAMES
    for name, figure in figures.items():
        figure.savefig(tmp_path / name, format="png")
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")
        for axes in figure.axes:
            assert axes.get_title()
            assert axes.get_xlabel()


@pytest.mark.parametrize(
    ("name", "unit"),
    [("wer_by_parameters", "(M)"), ("wer_by_bytes", "(MB)")],
)
def test_costs_are_on_a_log_axis_with_their_unit(figures, name, unit):
    (axes,) = figures[name].axes
    assert axes.get_xscale() == "log"
    assert axes.get_xlabel().endswith(unit)
    assert axes.get_ylabel() == "test WER (%)"
    assert axes.get_title() == "whisper-base, hsb (unadapted: 25.0 %)"
    assert legend(figures[name]) == ["LoRA", "SumRA", "rank 2", "rank 32"]


def test_sweeps_and_tests_have_panels_of_their_own(figures):
    sweep, tested = figures["by_learning_rate"].axes
    assert sweep.get_xscale() == tested.get_xscale() == "log"
    assert sweep.get_ylabel() == "lowest validation loss (nats a token)"
    assert sweep.get_title() == "whisper-base, hsb: LoRA"
    (line,) = sweep.get_lines()
    assert line.get_xdata().tolist() == [1e-4, 1e-3]
    assert tested.get_ylabel() == "test WER (%)"
    assert len(tested.get_lines()) == 4
    expected = ["LoRA", "SumRA", "rank 2", "rank 32"]
    assert legend(figures["by_learning_rate"]) == expected


def test_every_rank_has_its_learning_curves(figures):
    titles = [axes.get_title() for axes in figures["learning_curves"].axes]
    assert titles == ["whisper-base, hsb, rank 2", "whisper-base, hsb, rank 32"]
    assert legend(figures["learning_curves"]) == ["LoRA", "SumRA"]


def test_each_seed_has_a_curve_and_each_method_a_name(results, add_run):
    for seed in (1, 2, 3):
        add_run(seed=seed)
    figure = draw(results)["learning_curves"]
    (axes,) = figure.axes
    assert len(axes.get_lines()) == 3
    assert legend(figure) == ["LoRA"]


def test_settings_of_a_method_in_a_sweep_can_be_told_apart(results, add_run):
    for strategy in ("interleave", "greedy", "block"):
        for lr in (1e-4, 1e-3):
            add_run("sumra", errors=None, lr=lr, adapter={"strategy": strategy})
    usual, others = draw(results)["by_learning_rate"].axes
    assert usual.get_title() == "whisper-base, hsb: SumRA"
    assert others.get_title() == "whisper-base, hsb: SumRA, other settings"
    assert [line.get_label() for line in usual.get_lines()] == ["rank 32"]
    names = [line.get_label() for line in others.get_lines()]
    assert sorted(names) == ["strategy block, rank 32", "strategy greedy, rank 32"]
    assert len({line.get_marker() for line in others.get_lines()}) == 2
    assert [text.get_text() for text in others.get_legend().get_texts()] == names


def test_what_diverges_does_not_flatten_the_rest(results, add_run):
    for lr, loss in ((1e-4, 1.5), (1e-3, 1.4), (1e-2, 6.0)):
        add_run(errors=None, lr=lr, best_valid_loss=loss)
    (axes,) = draw(results)["by_learning_rate"].axes
    low, high = axes.get_ylim()
    assert 1.3 < low < 1.4 and high == 2.4


def test_a_learning_rate_is_a_plain_number(figures):
    axes = figures["by_learning_rate"].axes[0]
    axes.figure.draw_without_rendering()
    low, high = axes.get_xlim()
    shown = [
        label.get_text()
        for tick, label in zip(axes.get_xticks(), axes.get_xticklabels(), strict=True)
        if low <= tick <= high
    ]
    assert shown == ["0.0001", "0.0002", "0.0005", "0.001"]


def test_loads_have_a_bar_for_each_strategy_and_rank(figures):
    (axes,) = figures["row_loads"].axes
    labels = [text.get_text() for text in axes.get_yticklabels()]
    assert labels == ["interleave, rank 2", "interleave, rank 32"]
    assert [bar.get_width() for bar in axes.patches] == [1.25, 1.25]


def test_without_data_there_is_a_reason(results, add_run):
    add_run("unadapted")
    study = Study(find_runs(results))
    for plot in plots(study, study.methods()):
        assert plot.figure is None
        assert plot.missing.startswith(("no ", "neither "))
