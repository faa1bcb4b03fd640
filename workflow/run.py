"""One training: what it is, where it goes, and its command line."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from functools import cache
from pathlib import Path

HPARAMS = Path(__file__).resolve().parents[1] / "hparams"
METHODS, MODELS = (
    sorted(file.stem for file in (HPARAMS / kind).glob("*.yaml"))
    for kind in ("methods", "models")
)

# A learning rate is chosen once for all values of these.
NOT_TUNED = (
    *("locale", "seed", "train_hours", "dev_hours", "test_hours", "init_from"),
    *("score_unadapted", "max_tokens", "avg_checkpoints"),
)
# Strategy of SumRA, and start of B: from a run on other languages together.
LEARNED = "learned"


class ConfigError(ValueError):
    """A config file that describes no study."""


@dataclass(frozen=True)
class Run:
    """One training.

    Attributes
    ----------
    id : str
        Its folder, below that of the study.
    method, model : str
        They name the experiment file.
    settings : dict
        What is set beside the experiment file.
    group : str or None
        Whose learning rate it takes; None if it has one, or needs none.
    """

    id: str
    method: str
    model: str
    settings: dict
    group: str | None = None

    @property
    def experiment(self) -> str:
        """Name of the experiment file."""
        return f"{self.method}_{self.model}"

    def __getitem__(self, name: str):
        """A setting, the experiment file's if the run has no other."""
        if name in ("method", "model"):
            return getattr(self, name)
        return self.settings.get(name, experiment_of(self.method, self.model).get(name))


@cache
def experiment_of(method: str, model: str) -> Mapping:
    """The settings of an experiment file.

    Arguments
    ---------
    method, model : str
        As in hparams/<method>_<model>.yaml.

    Returns
    -------
    mapping
        Values by name, references and objects unresolved.

    Raises
    ------
    ConfigError
        If there is no such file; it names the methods and models that there are.
    """
    # Both take seconds, which commands that need no experiment should not.
    import ruamel.yaml

    from speechbrain_sumra.training.hparams import read_experiment

    path = HPARAMS / f"{method}_{model}.yaml"
    if not path.is_file():
        raise ConfigError(
            f"No experiment hparams/{path.name}. Methods: {', '.join(METHODS)}; "
            f"models: {', '.join(MODELS)}."
        )
    return ruamel.yaml.YAML().load(read_experiment(path))


def check_names(settings: Mapping, method: str, model: str) -> None:
    """Refuse settings that an experiment does not have.

    Raises
    ------
    ConfigError
        If there is one.
    """
    unknown = sorted(set(settings) - set(experiment_of(method, model)))
    if unknown:
        raise ConfigError(f"{method}_{model} has no setting {unknown[0]!r}.")


def make_run(settings: Mapping) -> Run:
    """A run with these settings.

    The experiment file's own values are left out, and the rank where there are no
    adapters, so that settings which mean the same give the same run.

    Arguments
    ---------
    settings : mapping
        "method", "model", and settings of their experiment by name.

    Returns
    -------
    Run
        Named after method, model, locale, and what differs from the experiment file;
        rank and seed are always named if they are given.

    Raises
    ------
    ConfigError
        If method or model is missing, or a setting unknown.

    Example
    -------
    >>> settings = {"method": "sumra", "model": "whisper_base", "locale": "hsb"}
    >>> make_run({**settings, "rank": 2, "strategy": "interleave", "seed": 1}).id
    'sumra_whisper_base/hsb/rank-2_seed-1'
    """
    for name in ("method", "model"):
        if name not in settings:
            raise ConfigError(f"Expected a {name} in the entry {dict(settings)}.")
    settings = dict(settings)
    method, model = settings.pop("method"), settings.pop("model")
    experiment = experiment_of(method, model)
    check_names(settings, method, model)
    if experiment["adapter_class"] is None:
        settings.pop("rank", None)
    needs_lr = bool(experiment["lr"]) and "lr" not in settings
    if needs_lr and experiment["models_to_average"] > 1:
        raise ConfigError(
            f"{method} cannot be swept, because nothing is averaged without decoding: "
            "give its entry an lr."
        )
    locale = settings.pop("locale", experiment["locale"])
    rest = {k: settings[k] for k in sorted(settings) if settings[k] != experiment[k]}
    named = {
        **{k: settings[k] for k in ("rank",) if k in settings},
        **{k: v for k, v in rest.items() if k not in ("rank", "seed")},
        **{k: settings[k] for k in ("seed",) if k in settings},
    }
    tuned = tuned_settings(named)
    return Run(
        f"{method}_{model}/{locale}/{label(named)}",
        method,
        model,
        {"locale": locale, **named},
        f"{method}_{model}/{label(tuned)}" if needs_lr else None,
    )


def tuned_settings(settings: Mapping) -> dict:
    """Settings that each have a learning rate of their own.

    Where B starts is one of them if it was learned with A: it is far from zero.

    Example
    -------
    >>> tuned_settings({"rank": 2, "seed": 1, "init_from": "related"})
    {'rank': 2}
    """
    return {
        name: value
        for name, value in settings.items()
        if name not in NOT_TUNED or (name, value) == ("init_from", LEARNED)
    }


def label(settings: Mapping) -> str:
    """A folder's name that says what is in it.

    Example
    -------
    >>> label({"rank": 32, "lr": 0.00005, "train_norms": False})
    'rank-32_lr-0.00005_train_norms-False'
    """
    words = (f"{name}-{as_text(value)}" for name, value in settings.items())
    return re.sub(r"[^\w.+-]+", "-", "_".join(words)) or "as_it_is"


def as_text(value) -> str:
    """A value as train.py's command line takes it.

    Example
    -------
    >>> as_text(0.00005), as_text(None), as_text([1, 2]), as_text("polish")
    ('0.00005', 'null', '[1, 2]', 'polish')
    """
    if isinstance(value, float):
        return f"{Decimal(repr(value)):f}"
    if isinstance(value, (list, dict, type(None))):
        return json.dumps(value)
    return str(value)


def command_line(run: Run, options: Mapping, **places) -> list[str]:
    """Arguments of train.py.

    Arguments
    ---------
    run : Run
        The run.
    options : mapping
        Settings of all runs; those of the run itself count more.
    **places
        What the run cannot know: its learning rate, its output folder. They count
        most; None leaves a setting as it is.

    Returns
    -------
    list of str
        The experiment file, and --name=value for each setting.
    """
    known = {name: value for name, value in places.items() if value is not None}
    values = {**options, **run.settings, **known}
    return [
        str(HPARAMS / f"{run.experiment}.yaml"),
        *(f"--{name}={as_text(value)}" for name, value in values.items()),
        "--noprogressbar",
    ]
