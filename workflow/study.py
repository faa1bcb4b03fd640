"""A config file -> all runs of a study.

An entry of ``runs`` names settings of train.py with a value or a list of values;
all combinations are meant. ``method`` and ``model`` choose the experiment file,
hparams/<method>_<model>.yaml. workflow/README.md describes the other keys.
"""

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from learning_rates import sweep_runs
from run import (
    LEARNED,
    METHODS,
    ConfigError,
    Run,
    check_names,
    experiment_of,
    make_run,
    tuned_settings,
)

KEYS = (
    *("name", "study", "data_folder", "runs_folder", "results_folder", "whisper_hub"),
    *("options", "defaults", "runs", "sweep", "shared_speech", "warm_starts"),
    *("resources", "estimate"),
)
# Strategies of SumRA whose A is made from speech of other languages.
FROM_SPEECH = ("inputs", "gradients", "corda", LEARNED)
# What the run that learns A has in common with those that use it.
SAME_AS_LEARNED = (
    *("rank", "alpha", "row_norm", "train_norms"),
    *("adapted_encoder_layers", "adapted_linears"),
)


@dataclass(frozen=True)
class Study:
    """All that a config asks for.

    Attributes
    ----------
    runs : dict of str to Run
        The runs that are reported, by id.
    sweeps : dict of str to dict
        For each group the runs that choose its learning rate, by id.
    donors : dict of str to Run
        Runs on other languages, of which others have their A or their start.
    """

    runs: dict[str, Run]
    sweeps: dict[str, dict[str, Run]]
    donors: dict[str, Run]

    @property
    def trainings(self) -> dict[str, Run]:
        """All of them, by id."""
        swept = {
            name: run for runs in self.sweeps.values() for name, run in runs.items()
        }
        return {**swept, **self.donors, **self.runs}


def plan(config: Mapping) -> Study:
    """Expand a config.

    Arguments
    ---------
    config : mapping
        As read from a file of workflow/config/.

    Returns
    -------
    Study
        Its runs. Entries that mean the same run give one.

    Raises
    ------
    ConfigError
        If something is missing, unknown or empty.

    Example
    -------
    >>> study = plan({
    ...     "name": "example",
    ...     "data_folder": "data",
    ...     "defaults": {"model": "whisper_base", "locale": "hsb"},
    ...     "runs": [{"method": ["lora", "sumra"], "rank": 2, "seed": [1, 2]}],
    ...     "sweep": {"locale": "hsb", "lr": [{"values": [0.001, 0.002]}]},
    ... })
    >>> list(study.runs)[:2]
    ['lora_whisper_base/hsb/rank-2_seed-1', 'lora_whisper_base/hsb/rank-2_seed-2']
    >>> list(study.sweeps["lora_whisper_base/rank-2"])[0]
    'sweep/lora_whisper_base/rank-2/lr-0.001'
    """
    _check_keys(config)
    runs, donors = {}, {}
    for entry in config["runs"]:
        for settings in _combinations({**(config.get("defaults") or {}), **entry}):
            run = make_run(settings)
            if runs.setdefault(run.id, run) != run:
                raise ConfigError(f"Two different runs would be called {run.id}.")
            _check_speech(run, config)
            others = [learner_of(run, config), *starters_of(run, config)]
            donors.update((other.id, other) for other in others if other is not None)
    _check_settings(config, [*runs.values(), *donors.values()])
    sweep, sweeps = config.get("sweep") or {}, {}
    # Donors last: the group of a warm start is that of the run which it is for.
    for run in (*runs.values(), *map(_without_token, donors.values())):
        if run.group is not None and run.group not in sweeps:
            sweeps[run.group] = sweep_runs(run, sweep)
    return Study(runs, sweeps, donors)


def options_of(config: Mapping) -> dict:
    """The settings of train.py that all runs of a config have."""
    places = ("data_folder", "runs_folder", "whisper_hub")
    given = {name: config[name] for name in places if config.get(name)}
    return {"runs_folder": "runs", **(config.get("options") or {}), **given}


def learner_of(run: Run, config: Mapping) -> Run | None:
    """The run that learns the A of another one, of strategy "learned".

    Arguments
    ---------
    run : Run
        The run.
    config : mapping
        Its config.

    Returns
    -------
    Run or None
        On all languages of ``shared_speech`` together; None for other strategies.
    """
    if run["strategy"] != LEARNED:
        return None
    same = {k: v for k, v in run.settings.items() if k in SAME_AS_LEARNED}
    learner = make_run({"method": "sumra_train_a", "model": run.model, **same})
    return _donor(learner, LEARNED, "+".join(config["shared_speech"]["locales"]))


def starters_of(run: Run, config: Mapping) -> list[Run]:
    """The runs that another one starts from.

    Arguments
    ---------
    run : Run
        The run.
    config : mapping
        Its config.

    Returns
    -------
    list of Run
        One of each language that ``warm_starts`` lists under the run's ``init_from``;
        none if it is not listed.
    """
    warm_starts, name = config.get("warm_starts") or {}, run["init_from"]
    languages = warm_starts.get(name, []) if isinstance(name, str) else []
    own = tuned_settings(run.settings)
    starter = make_run({"method": run.method, "model": run.model, **own})
    return [_donor(starter, name, locale) for locale in languages]


def _donor(run: Run, name: str, locale: str) -> Run:
    """The same run on another language, with the token that Whisper has for it."""
    *_, settings = run.id.split("/")
    return replace(
        run,
        id=f"donors/{name}/{run.experiment}/{settings}/{locale}",
        settings={**run.settings, "locale": locale, "language": "own"},
    )


def _without_token(donor: Run) -> Run:
    settings = {k: v for k, v in donor.settings.items() if k != "language"}
    return replace(donor, settings=settings)


def _combinations(entry: Mapping) -> Iterator[dict]:
    """One dict for each combination of the values of an entry."""
    values = [v if isinstance(v, list) else [v] for v in entry.values()]
    for name, listed in zip(entry, values, strict=True):
        if not listed:
            raise ConfigError(f"Expected a value of {name!r} in {dict(entry)}, not [].")
    for combination in itertools.product(*values):
        yield dict(zip(entry, combination, strict=True))


def _check_keys(config: Mapping) -> None:
    unknown = sorted(set(config) - set(KEYS))
    if unknown:
        raise ConfigError(
            f"Unknown key {unknown[0]!r} in the config; expected {', '.join(KEYS)}."
        )
    for key in ("name", "data_folder", "runs"):
        if not config.get(key):
            raise ConfigError(f"Expected {key!r} in the config.")
    for entry in config["runs"]:
        if not isinstance(entry, Mapping):
            raise ConfigError(
                f"Expected settings as an entry of runs, found {entry!r}."
            )


def _check_speech(run: Run, config: Mapping) -> None:
    """Speech of other languages must be there if a run needs it."""
    starts = run["init_from"] in list(config.get("warm_starts") or {})
    speech = config.get("shared_speech") or {}
    for name in ("data_folder", "locales"):
        if (starts or run["strategy"] in FROM_SPEECH) and not speech.get(name):
            raise ConfigError(
                f"{run.id} needs speech of other languages: expected {name} under "
                "shared_speech."
            )


def _check_settings(config: Mapping, runs: list[Run]) -> None:
    """Names that are checked nowhere else: of options and of conditions of grids."""
    used = sorted({(run.method, run.model) for run in runs})
    for method, model in used:
        check_names(config.get("options") or {}, method, model)
    known = {"method", "model", "values"}.union(
        *(experiment_of(*pair) for pair in used)
    )
    for grid in (config.get("sweep") or {}).get("lr") or []:
        for name in sorted(set(grid) - known):
            # It may be a setting of a method that no run has.
            if not any(name in experiment_of(m, used[0][1]) for m in METHODS):
                raise ConfigError(
                    f"Unknown {name!r} in the learning rates {dict(grid)}: expected "
                    "values, and settings of runs as conditions."
                )
