"""What a report says around its tables: data, warnings, plots, runs left over."""

from collections import Counter
from collections.abc import Iterable
from statistics import mean

from speechbrain_sumra.report.layouts import method_name, rank_text
from speechbrain_sumra.report.plots import Plot
from speechbrain_sumra.report.runs import Run
from speechbrain_sumra.report.study import DEFAULTS, Study, describe
from speechbrain_sumra.report.table import NOTHING, Table, grid

FIGURES = (
    "trained_parameters",
    "adapter_bytes",
    "shared_bytes",
    "test_wer",
    "test_cer",
    "test_loss",
    "test_wer_before",
    "best_valid_wer",
    "best_valid_loss",
    "peak_memory_bytes",
    "precision",
)
KIND = ("model", "locale", "method", "rank", "lr", "unusual")
SORTING = f"""\
## How runs are sorted

By their settings alone, whatever their folders are called. Usual are
{describe(DEFAULTS)};
avg_checkpoints half of the validations for SumRA and LoRA-FA, 1 for other methods and
where no run of the method and rank has that half; for each model and locale the largest
train_hours, and the number_of_epochs that most of its runs with as many hours have.

- Table 2 has the tested runs in which all of this is as usual,
- Table 3 those of SumRA, LoRA and LoRA-FA in which strategy, row_norm and init_from may
  differ, where SumRA has several of them,
- Table 4 those of FT, LoRA and SumRA in which train_hours and init_from may differ,
  where there are several train_hours,
- Table 5 those in which language, train_norms, adapted_encoder_layers, adapted_linears,
  avg_checkpoints and label_smoothing may differ, where a method has several of them.

Where several settings are left for one cell, such as learning rates, the table shows
those with most seeds, and of these the ones of the lowest mean validation loss. The
rest is under "Other runs". Each table is a CSV file, too, with the paths of the
summaries behind every figure; runs.csv has a line for each run."""


def facts(study: Study) -> str:
    """What the report is made of: runs, data, versions.

    Arguments
    ---------
    study : Study
        The runs.

    Returns
    -------
    str
        Markdown.
    """
    runs = study.runs
    tested = sum(run.is_tested for run in runs)
    versions: dict[str, set[str]] = {}
    for run in runs:
        for package, version in run.summary["versions"].items():
            versions.setdefault(package, set()).add(version)
    locales = sorted({run.locale for run in runs})
    lines = [
        f"{len(runs)} runs: {tested} tested, {len(runs) - tested} of sweeps. Models: "
        f"{', '.join(sorted({run.model for run in runs}))}. {len(locales)} locale(s): "
        f"{', '.join(locales)}. Seeds: {_numbers(run.seed for run in runs)}.",
        "Versions: "
        + "; ".join(f"{name} {', '.join(sorted(v))}" for name, v in versions.items())
        + ".",
        _precisions(runs),
    ]
    by_data: dict[tuple, list[Run]] = {}
    for run in runs:
        place = run.locale, run.train_hours, run.summary["data_hash"]
        by_data.setdefault(place, []).append(run)
    columns = [
        "locale",
        "train_hours",
        "kept",
        "data_hash",
        "seeds",
        "tested",
        "sweeps",
    ]
    rows = []
    for (locale, hours, data_hash), of_data in sorted(by_data.items()):
        tested = sum(run.is_tested for run in of_data)
        rows.append(
            [
                locale,
                f"{hours:g}",
                f"{of_data[0].summary['train_hours_kept']:.2f} h",
                data_hash[:12],
                _numbers(run.seed for run in of_data),
                str(tested),
                str(len(of_data) - tested),
            ]
        )
    return "\n\n".join([*lines, grid(columns, rows)])


def warnings(study: Study) -> list[str]:
    """What a reader of the tables must know first.

    Arguments
    ---------
    study : Study
        The runs.

    Returns
    -------
    list of str
        Sentences.
    """
    found = []
    hashes: dict[tuple, set[str]] = {}
    for run in study.runs:
        place = run.locale, run.train_hours
        hashes.setdefault(place, set()).add(run.summary["data_hash"])
    for (locale, hours), different in sorted(hashes.items()):
        if len(different) > 1:
            found.append(
                f"Runs of {locale} with train_hours {hours:g} have {len(different)} "
                "different data_hash, so they saw other clips. No difference between "
                "them is computed."
            )
    if study.groups and not any(g.run.method == study.baseline for g in study.groups):
        found.append(
            f"There is no tested run of {method_name(study.baseline)}, with which the "
            "others would be compared."
        )
    return found


def plots_section(drawn: list[Plot]) -> str:
    """The plots, and why some were not made.

    Arguments
    ---------
    drawn : list of Plot
        All of them.

    Returns
    -------
    str
        Markdown.
    """
    parts = ["## Plots"]
    for plot in drawn:
        if plot.figure is None:
            parts.append(f"{plot.title}: not made, for there is {plot.missing}.")
        else:
            parts += [f"### {plot.title}", f"![{plot.title}]({plot.name}.png)"]
    return "\n\n".join(parts)


def other_runs(study: Study, tables: list[Table]) -> str:
    """Runs that no table shows, and what is unusual about them.

    Arguments
    ---------
    study : Study
        The runs.
    tables : list of Table
        All tables.

    Returns
    -------
    str
        Markdown.
    """
    shown = {
        run.path for table in tables for group in table.groups for run in group.runs
    }
    rows = []
    for run in study.runs:
        if run.path not in shown:
            usual = "nothing: others of its cell have more seeds or less loss"
            wer = run.summary["test_wer"]
            rows.append([run.path, *_kind(study, run, usual), f"{wer:.2f}"])
    columns = ["run", *KIND, "WER"]
    text = grid(columns, rows) if rows else "None: every run stands in a table."
    return f"## Other runs\n\n{text}"


def endless_texts(study: Study) -> str:
    """What texts that repeat themselves for ever are worth, where it is a point.

    Arguments
    ---------
    study : Study
        The runs.

    Returns
    -------
    str
        Markdown.
    """
    rows = []
    for group in study.groups:
        run, capped = group.run, [run.capped_wer for run in group.runs]
        worth = mean(group.wers) - mean(capped)
        if run.is_adapted and worth >= 1:
            wers = (", ".join(f"{wer:.2f}" for wer in w) for w in (group.wers, capped))
            rows.append([*_kind(study, run, NOTHING), *wers, f"{worth:.2f}"])
    rows.sort(key=lambda row: -float(row[-1]))
    columns = [*KIND, "WER of each seed", "capped", "difference of means"]
    text = grid(columns, rows) if rows else "No group of runs loses a point by them."
    about = (
        "A text that says a phrase up to the limit of tokens adds many times its words "
        "to the errors. Capped is the WER if no utterance has more errors than words "
        "(runs.csv has it of every run). Where both are a point or more apart, much of "
        "what the WER says is of one or two utterances:"
    )
    return f"## Texts that do not end\n\n{about}\n\n{text}"


def run_records(runs: list[Run], tables: list[Table]) -> list[dict]:
    """A row for each run, with the tables that it stands in.

    Arguments
    ---------
    runs : list of Run
        The runs.
    tables : list of Table
        All tables.

    Returns
    -------
    list of dict
        Rows of runs.csv.
    """
    shown: dict[str, list[str]] = {run.path: [] for run in runs}
    for table in tables:
        for run in (run for group in table.groups for run in group.runs):
            shown[run.path].append(table.name)
    return [
        {
            "summary": run.path,
            "tables": " ".join(shown[run.path]),
            "model": run.model,
            "locale": run.locale,
            "method": run.method,
            "rank": run.rank,
            "lr": run.lr,
            "seed": run.seed,
            **{name: run.setting(name) for name in (*DEFAULTS, "avg_checkpoints")},
            "train_hours": run.train_hours,
            "train_hours_kept": run.summary["train_hours_kept"],
            "number_of_epochs": run.summary["number_of_epochs"],
            "data_hash": run.summary["data_hash"],
            "test_utterances": len(run.summary["test_words"] or ()),
            "capped_wer": run.capped_wer and round(run.capped_wer, 6),
            **{name: run.summary.get(name) for name in FIGURES},
            "seconds": round(sum(run.summary.get("seconds", {}).values()), 2),
        }
        for run in runs
    ]


def _kind(study: Study, run: Run, usual: str) -> list[str]:
    """Cells for the columns ``KIND``; the last is ``usual`` if nothing is unusual."""
    return [
        run.model,
        run.locale,
        method_name(run.method),
        rank_text(run),
        f"{run.lr:g}",
        describe({**study.unusual(run), **study.unusual_length(run)}) or usual,
    ]


def _precisions(runs: list[Run]) -> str:
    """What runs were trained in: "auto" is another precision on another machine."""
    counts = Counter(run.summary.get("precision", "not recorded") for run in runs)
    told = ", ".join(f"{name} ({number})" for name, number in sorted(counts.items()))
    return f"Precision of the training (number of runs): {told}."


def _numbers(values: Iterable[int]) -> str:
    return ", ".join(str(value) for value in sorted(set(values)))
