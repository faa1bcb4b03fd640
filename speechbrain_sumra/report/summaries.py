"""The ``summary.json`` of runs, found, read and checked."""

import json
import math
from pathlib import Path

from speechbrain_sumra.report.runs import ReportError, Run

NUMBER = (int, float)
MAYBE_NUMBER = (int, float, type(None))
MAYBE_LIST = (list, type(None))
# What the report reads of a summary, and what it may be.
FIELDS = {
    "experiment": str,
    "base_model": str,
    "locale": str,
    "rank": int,
    "lr": NUMBER,
    "seed": int,
    "language": str,
    "train_norms": bool,
    "train_hours": NUMBER,
    "train_hours_kept": NUMBER,
    "number_of_epochs": NUMBER,
    "init_from": (str, dict, type(None)),
    "avg_checkpoints": (int, type(None)),
    "data_hash": str,
    "versions": dict,
    "trained_parameters": int,
    "adapter_bytes": int,
    "adapter": dict,
    "largest_basis_figures": dict,
    "validations": list,
    "best_valid_loss": MAYBE_NUMBER,
    "test_wer": MAYBE_NUMBER,
    "test_errors": MAYBE_LIST,
    "test_words": MAYBE_LIST,
}


def find_runs(folder: str | Path) -> list[Run]:
    """All finished runs below a folder.

    Arguments
    ---------
    folder : str or Path
        Where to look for summary.json, at any depth.

    Returns
    -------
    list of Run
        In the order of their paths.

    Raises
    ------
    ReportError
        If there is none, one cannot be used, or two have the same settings.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise ReportError(f"Expected a folder of finished runs, {folder} is none.")
    runs = [read_run(path, folder) for path in sorted(folder.rglob("summary.json"))]
    if not runs:
        raise ReportError(
            f"Expected finished runs below {folder}, found no summary.json. train.py "
            "writes one into a run's output_folder when it ends."
        )
    by_settings: dict[tuple, Run] = {}
    for run in runs:
        same = by_settings.setdefault((run.key(), run.seed), run)
        if same is not run:
            raise ReportError(
                f"{folder / same.path} and {folder / run.path} are runs with the same "
                "settings, data and seed. Move one of them elsewhere."
            )
    return runs


def read_run(path: Path, folder: Path) -> Run:
    """A run, from its summary.

    Arguments
    ---------
    path : Path
        A summary.json.
    folder : Path
        What the run's path is relative to.

    Returns
    -------
    Run
        The run.

    Raises
    ------
    ReportError
        If the file is no JSON, lacks a field, or contradicts itself.
    """
    try:
        summary = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ReportError(f"{path} cannot be read as JSON: {error}") from error
    if not isinstance(summary, dict):
        raise ReportError(f"{path}: expected a run's summary, found {summary!r:.50}.")
    for name, kind in FIELDS.items():
        if name not in summary:
            raise ReportError(
                f"{path} has no {name!r}. If an earlier version wrote it, run it again "
                "or move it elsewhere."
            )
        if not isinstance(summary[name], kind):
            kinds = kind if isinstance(kind, tuple) else (kind,)
            expected = " or ".join(k.__name__ for k in kinds)
            raise ReportError(
                f"{path}: expected {name!r} to be {expected}, found "
                f"{summary[name]!r:.50}."
            )
    for record in summary["validations"]:
        if not {"epoch", "valid_loss"} <= record.keys():
            raise ReportError(
                f"{path}: expected epoch and valid_loss in each of its validations, "
                f"found {record!r:.80}."
            )
    _check_scores(path, summary)
    return Run(path.relative_to(folder).as_posix(), summary)


def _check_scores(path: Path, summary: dict) -> None:
    """WER must follow from the counts; a run of a sweep must have a loss."""
    wer, errors, words = (
        summary[name] for name in ("test_wer", "test_errors", "test_words")
    )
    if wer is None:
        if summary["best_valid_loss"] is None:
            raise ReportError(f"{path} has neither a test_wer nor a best_valid_loss.")
        return
    if not errors or not words or len(errors) != len(words) or not sum(words):
        raise ReportError(
            f"{path}: expected word edits and words of each test utterance, found "
            f"{len(errors or ())} test_errors and {len(words or ())} test_words."
        )
    counted = 100 * sum(errors) / sum(words)
    if not math.isclose(counted, wer, abs_tol=1e-3):
        raise ReportError(
            f"{path}: test_wer is {wer}, but test_errors and test_words give "
            f"{counted:.4f}. The file was changed, or two runs wrote it."
        )
