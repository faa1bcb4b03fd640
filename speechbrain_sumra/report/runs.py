"""Finished runs, and groups of those that differ in their seed alone."""

import json
import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

# Methods in the order of tables, as tables and plots call them.
NAMES = {
    "unadapted": "unadapted",
    "ft": "FT",
    "lora": "LoRA",
    "lora_plus": "LoRA+",
    "vera": "VeRA",
    "lora_fa": "LoRA-FA",
    "dora": "DoRA",
    "adalora": "AdaLoRA",
    "pissa": "PiSSA",
    "corda": "CorDA",
    "sorsa": "SORSA",
    "model_average": "model average",
    "sumra": "SumRA",
    "sumra_train_a": "SumRA (train A)",
}
# How a step of training is made, and what the runs of earlier versions had.
STEPS = {
    "batch_size": 4,
    "grad_accumulation_factor": 1,
    "max_grad_norm": 5.0,
    "weight_decay": 0.01,
    "sort_window": 1,
    "validations_per_epoch": 8,
}
# Beside those of the adapter, what tells two runs of one seed apart.
SETTINGS = (
    "base_model",
    "locale",
    "lr",
    "lora_plus_ratio",
    "label_smoothing",
    "language",
    "train_norms",
    "adapted_encoder_layers",
    "adapted_linears",
    "train_hours",
    "number_of_epochs",
    "init_from",
    "avg_checkpoints",
    "stop_repetition",
    "data_hash",
    *STEPS,
)
# Settings that runs of earlier versions do not name, and what theirs were.
EARLIER = {
    "label_smoothing": 0.0,
    "adapted_encoder_layers": 0,
    "adapted_linears": "all",
    "stop_repetition": False,
    **STEPS,
}
# VeRA's name for the seed; what follows from the settings; what the run says itself.
NOT_SETTINGS = (
    "projection_prng_key",
    "base_fingerprint",
    "basis_fingerprint",
    "adapted_encoder_layers",
)


class ReportError(ValueError):
    """Results that no report can be made of."""


@dataclass(frozen=True, eq=False)
class Run:
    """A finished run.

    Attributes
    ----------
    path : str
        Its summary.json, relative to the folder of the results.
    summary : dict
        What is in it.
    """

    path: str
    summary: dict

    @property
    def model(self) -> str:
        """The base model, without where it comes from: "whisper-base"."""
        return Path(self.summary["base_model"]).name

    @property
    def locale(self) -> str:
        """The language that it was adapted to."""
        return self.summary["locale"]

    @property
    def seed(self) -> int:
        """Seed of the run."""
        return self.summary["seed"]

    @property
    def method(self) -> str:
        """The method, by its settings: a key of ``NAMES``, or another experiment's.

        The members of an average are SumRA runs, each with one slice. The average
        itself has not been trained, so it has no validations.
        """
        name = self.summary["experiment"].partition("_whisper_")[0]
        if name == "model_average" and self.summary["validations"]:
            name = "sumra"
        if name == "sumra" and self.summary["adapter"].get("train_down_proj"):
            name = "sumra_train_a"
        return name

    @property
    def rank(self) -> int | None:
        """The rank; None where there are no adapters."""
        has_adapters = self.summary["adapter"].get("method") is not None
        return self.summary["rank"] if has_adapters else None

    @property
    def lr(self) -> float:
        """The learning rate at the start of the training."""
        return self.summary["lr"]

    @property
    def train_hours(self) -> float:
        """Hours of training data that were asked for."""
        return self.summary["train_hours"]

    @property
    def is_adapted(self) -> bool:
        """Whether anything was trained."""
        return self.summary["trained_parameters"] > 0

    @property
    def is_tested(self) -> bool:
        """Whether the test set was recognised; else it is a run of a sweep."""
        return self.summary["test_wer"] is not None

    @property
    def capped_errors(self) -> list[int]:
        """Word edits of each test utterance, but no more than it has words."""
        errors, words = self.summary["test_errors"], self.summary["test_words"]
        return list(map(min, errors, words))

    @property
    def capped_wer(self) -> float | None:
        """Test WER in percent if no utterance has more errors than words.

        A text that repeats itself up to the limit of tokens may be several points of a
        small test set; this says more of the others. None of a sweep's run.

        Example
        -------
        >>> Run("", {"test_errors": [1, 40], "test_words": [4, 4]}).capped_wer
        62.5
        """
        if self.summary["test_errors"] is None:
            return None
        return 100 * sum(self.capped_errors) / sum(self.summary["test_words"])

    def setting(self, name: str):
        """A setting of the run or of its adapter, in a form that can be compared.

        Arguments
        ---------
        name : str
            "language", "strategy", ...

        Returns
        -------
        str or int or float or bool or None
            Its value; None if the run has no such setting. Only SumRA itself has a
            strategy: the slices of an average are no choice.
        """
        if name == "strategy" and not self.method.startswith("sumra"):
            return None
        settings = {**EARLIER, **self.summary["adapter"], **self.summary}
        value = settings.get(name)
        if isinstance(value, (dict, list)):
            return json.dumps(value, sort_keys=True)
        return value

    def key(self, *ignored: str) -> str:
        """All settings but the seed, and those ignored, as one string.

        Arguments
        ---------
        *ignored : str
            Names of settings.

        Returns
        -------
        str
            Two runs have the same if they differ in nothing else.
        """
        adapter = {
            name: value
            for name, value in self.summary["adapter"].items()
            if name not in NOT_SETTINGS
        }
        settings = {
            **{name: self.summary.get(name, EARLIER.get(name)) for name in SETTINGS},
            "method": self.method,
            "rank": self.rank,
            "is_tested": self.is_tested,
            "adapter": adapter,
        }
        for name in ignored:
            del settings[name]
        return json.dumps(settings, sort_keys=True)


@dataclass(frozen=True, eq=False)
class Group:
    """Runs that differ in their seed alone.

    Attributes
    ----------
    runs : tuple of Run
        In the order of their seeds; there is at least one.
    """

    runs: tuple[Run, ...]

    @property
    def run(self) -> Run:
        """One of them, for their settings."""
        return self.runs[0]

    @property
    def wers(self) -> list[float]:
        """Test WER of each run, in percent."""
        return [run.summary["test_wer"] for run in self.runs]

    @property
    def valid_loss(self) -> float:
        """Mean over runs of the lowest validation loss; infinite if there is none."""
        losses = [run.summary["best_valid_loss"] for run in self.runs]
        losses = [math.inf if loss is None else loss for loss in losses]
        mean = sum(losses) / len(losses)
        return mean if math.isfinite(mean) else math.inf

    @property
    def paths(self) -> str:
        """Their summaries, with semicolons between them."""
        return ";".join(run.path for run in self.runs)

    def largest(self, figure: str) -> int:
        """The largest value of a figure of the summaries."""
        return max(run.summary[figure] for run in self.runs)

    @cached_property
    def errors(self) -> np.ndarray:
        """Word edits of each test utterance, their mean over runs."""
        return np.mean([run.summary["test_errors"] for run in self.runs], axis=0)

    @cached_property
    def capped_errors(self) -> np.ndarray:
        """Those of ``Run.capped_errors``, their mean over runs."""
        return np.mean([run.capped_errors for run in self.runs], axis=0)

    @cached_property
    def words(self) -> np.ndarray:
        """Reference words of each test utterance."""
        return np.array(self.run.summary["test_words"])


def method_order(run: Run) -> tuple[int, str]:
    """Where a method stands in tables and legends; those without a name come last.

    Arguments
    ---------
    run : Run
        A run of the method.

    Returns
    -------
    tuple of int and str
        To sort by.
    """
    names = list(NAMES)
    known = run.method in NAMES
    return (names.index(run.method) if known else len(names)), run.method


def group_runs(runs: Iterable[Run]) -> list[Group]:
    """Runs that differ in their seed alone, together.

    Arguments
    ---------
    runs : iterable of Run
        The runs.

    Returns
    -------
    list of Group
        In the order of their first runs.

    Raises
    ------
    ReportError
        If runs with one data_hash were tested on other utterances.
    """
    by_settings: dict[str, list[Run]] = {}
    for run in runs:
        by_settings.setdefault(run.key(), []).append(run)
    groups = [
        Group(tuple(sorted(same, key=lambda run: run.seed)))
        for same in by_settings.values()
    ]
    tested: dict[str, Run] = {}
    for run in (run for group in groups for run in group.runs if run.is_tested):
        first = tested.setdefault(run.summary["data_hash"], run)
        if first.summary["test_words"] != run.summary["test_words"]:
            raise ReportError(
                f"{first.path} and {run.path} have one data_hash but other test_words, "
                "so they were not scored on the same test set. Run the older one again."
            )
    return groups
