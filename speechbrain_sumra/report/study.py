"""Which runs stand in which table. It follows from their settings alone."""

from collections import Counter
from collections.abc import Callable, Iterable

from speechbrain_sumra.report.runs import NAMES, Group, ReportError, Run, group_runs

# What is usual. A run that has another value of one of these, or no setting of that
# name, stands only where that setting is what is compared.
DEFAULTS = {
    "language": "new",
    "train_norms": True,
    "strategy": "interleave",
    "row_norm": "raw",
    "init_from": None,
    "encoder_context": "clip",
    "adapted_encoder_layers": 0,
    "adapted_linears": "all",
    "label_smoothing": 0.0,
    "stop_repetition": False,
}
BASIS_CHOICES = {"strategy", "row_norm", "init_from"}
BASIS_METHODS = ("sumra", "lora", "lora_fa")
CHOICES = {
    "language",
    "train_norms",
    "adapted_encoder_layers",
    "adapted_linears",
    "avg_checkpoints",
    "label_smoothing",
}
# B alone is trained, so averages are exact.
AVERAGED_METHODS = ("sumra", "lora_fa", "model_average")
SCALED_METHODS = ("ft", "lora", "sumra", "sumra_train_a")  # as in the paper's Table 4


def describe(settings: dict) -> str:
    """Settings as a reader sees them.

    Example
    -------
    >>> describe({"language": "none", "train_norms": False})
    'language none, train_norms False'
    """
    return ", ".join(f"{name} {value}" for name, value in settings.items())


class Study:
    """All runs of a study, by the tables that they stand in.

    Beside ``DEFAULTS``, usual are for each base model and locale the largest
    ``train_hours`` of its tested runs, and for each of these the ``number_of_epochs``
    that most of them have. Hours do not matter where nothing was trained. A usual
    ``avg_checkpoints`` is half of the validations for SumRA and LoRA-FA, and 1 for
    other methods and where no run of the method and rank has that half (the paper's).

    Arguments
    ---------
    runs : iterable of Run
        All of them.
    baseline : str
        The method that others are compared with.

    Attributes
    ----------
    groups : list of Group
        Tested runs, together but for their seeds.
    sweeps : list of Group
        Runs of sweeps, which have losses alone, likewise.

    Raises
    ------
    ReportError
        If no method is called like the baseline.
    """

    def __init__(self, runs: Iterable[Run], baseline: str = "lora"):
        self.runs = list(runs)
        methods = dict.fromkeys([*NAMES, *(run.method for run in self.runs)])
        if baseline not in methods:
            raise ReportError(
                f"Expected a method to compare with, one of {', '.join(methods)}; "
                f"found {baseline!r}."
            )
        self.baseline = baseline
        self._averaged = {
            (run.method, *_place(run))
            for run in self.runs
            if run.method in AVERAGED_METHODS
            and run.setting("avg_checkpoints") == _half_of_validations(run)
        }
        groups = group_runs(self.runs)
        self.groups = [group for group in groups if group.run.is_tested]
        self.sweeps = [group for group in groups if not group.run.is_tested]
        self._hours: dict[tuple, float] = {}
        epochs: dict[tuple, Counter] = {}
        for run in (group.run for group in self.groups if group.run.is_adapted):
            place = run.model, run.locale
            self._hours[place] = max(run.train_hours, self._hours.get(place, 0))
            of_hours = epochs.setdefault((*place, run.train_hours), Counter())
            of_hours[run.summary["number_of_epochs"]] += 1
        self._epochs = {
            place: max(counts, key=lambda number: (counts[number], number))
            for place, counts in epochs.items()
        }

    def unusual(self, run: Run) -> dict:
        """The settings of a run that are not as usual.

        Arguments
        ---------
        run : Run
            The run.

        Returns
        -------
        dict
            Values by name, of names in ``DEFAULTS``, and ``avg_checkpoints``.
        """
        usual = dict(DEFAULTS)
        if run.summary["validations"]:
            averaged = (run.method, *_place(run)) in self._averaged
            usual["avg_checkpoints"] = _half_of_validations(run) if averaged else 1
        values = {name: run.setting(name) for name in usual}
        return {
            name: value
            for name, value in values.items()
            if value is not None and value != usual[name]
        }

    def unusual_length(self, run: Run) -> dict:
        """How the training of a run was shorter or longer than usual.

        Arguments
        ---------
        run : Run
            The run.

        Returns
        -------
        dict
            "train_hours" and "number_of_epochs" if they are not as usual.
        """
        if not run.is_adapted:
            return {}
        place = run.model, run.locale
        found = {}
        if run.train_hours != self._hours.get(place, run.train_hours):
            found["train_hours"] = run.train_hours
        epochs = run.summary["number_of_epochs"]
        if epochs != self._epochs.get((*place, run.train_hours), epochs):
            found["number_of_epochs"] = epochs
        return found

    def methods(self) -> list[Group]:
        """Table 2: everything as usual."""
        return self._select(lambda run: not self.unusual(run))

    def strategies(self) -> list[Group]:
        """Table 3: SumRA with any A; LoRA and LoRA-FA beside it.

        A locale and rank are left out if SumRA was run there with one A only.
        """
        groups = self._select(
            lambda run: (
                run.method in BASIS_METHODS
                and self.unusual(run).keys() <= BASIS_CHOICES
            )
        )
        kinds: dict[tuple, set] = {}
        for run in (group.run for group in groups if group.run.method == "sumra"):
            kinds.setdefault(_place(run), set()).add(describe(self.unusual(run)))
        several = {place for place, found in kinds.items() if len(found) > 1}
        return [group for group in groups if _place(group.run) in several]

    def hours(self) -> list[Group]:
        """Table 4: more and less training data, where there are both.

        Adapters may start from other languages, which should help where there is
        little. Fine-tuning has no rank; it is kept where any rank is.
        """
        groups = [
            group
            for group in self.groups
            if group.run.method in SCALED_METHODS
            and self.unusual(group.run).keys() <= {"init_from"}
            and self.unusual_length(group.run).keys() <= {"train_hours"}
        ]
        hours: dict[tuple, set] = {}
        for run in (group.run for group in groups):
            hours.setdefault(_place(run), set()).add(run.train_hours)
        several = {place for place, found in hours.items() if len(found) > 1}
        several |= {(model, locale, None) for model, locale, _ in several}
        return [group for group in groups if _place(group.run) in several]

    def choices(self) -> list[Group]:
        """Table 5: ``CHOICES``, where there are several."""
        groups = self._select(lambda run: self.unusual(run).keys() <= CHOICES)
        compared = {
            (group.run.method, *_place(group.run))
            for group in groups
            if self.unusual(group.run)
        }
        return [
            group
            for group in groups
            if (group.run.method, *_place(group.run)) in compared
        ]

    def _select(self, condition: Callable[[Run], bool]) -> list[Group]:
        """Tested groups of the usual length that meet a condition."""
        return [
            group
            for group in self.groups
            if not self.unusual_length(group.run) and condition(group.run)
        ]


def _half_of_validations(run: Run) -> int:
    return (len(run.summary["validations"]) + 1) // 2


def _place(run: Run) -> tuple[str, str, int | None]:
    return run.model, run.locale, run.rank


def best_of(groups: Iterable[Group]) -> Group:
    """The group that stands in a cell for which there are several.

    They differ in the learning rate, alpha or the like. It is chosen as it must be: by
    the development set and not by the test set.

    Arguments
    ---------
    groups : iterable of Group
        At least one.

    Returns
    -------
    Group
        That of most seeds, and of several the one of the lowest validation loss.
    """
    return min(groups, key=lambda group: (-len(group.runs), group.valid_loss))
