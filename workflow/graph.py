"""What stands before each training: files by rule, and command lines."""

import json
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

from run import Run, as_text, command_line, label, make_run
from study import FROM_SPEECH, Study, learner_of, options_of, starters_of

PLACES = ("adapted_encoder_layers", "adapted_linears")
BASIS = ("strategy", "rank", "row_norm", *PLACES)
# What encoder states depend on, beside model and clip.
STATES = ("encoder_context", "adapted_encoder_layers")
PREPARATION = ("dev_hours", "test_hours", "max_duration", "max_characters")


class Graph:
    """Paths and arguments of a study's jobs.

    Arguments
    ---------
    study : Study
        Its runs.
    config : mapping
        Its config.

    Attributes
    ----------
    folder, results : str
        Where its runs and its results are.
    options : dict
        Settings of train.py that all runs have.
    states : dict of str to Run
        A run for each kind of encoder states, by its name.
    hours : dict
        The most hours of training speech that a run asks for, by kind of encoder
        states and locale.
    bases : dict of str to Run
        A run for each basis that is made from speech, by its name.
    """

    def __init__(self, study: Study, config: Mapping):
        self.study = study
        self.config = config
        self.options = options_of(config)
        self.speech = config.get("shared_speech") or {}
        name = config["name"]
        self.folder = f"{self.options['runs_folder']}/{config.get('study', name)}"
        self.results = f"{config.get('results_folder', 'results')}/{name}"
        self.runs = study.trainings
        self.states = {states_of(run): run for run in self.runs.values()}
        self.hours = defaultdict(float)
        for run in self.runs.values():
            for locale in self._own_locales(run):
                place = states_of(run), locale
                hours = {**self.options, **run.settings}.get(
                    "train_hours", run["train_hours"]
                )
                self.hours[place] = max(self.hours[place], hours)
        self.bases = {
            self.basis(run): run for run in self.runs.values() if self.basis(run)
        }

    def _own_locales(self, run: Run) -> list[str]:
        """Locales of the data folder, not of the shared speech."""
        return [] if run.id in self.study.donors else run["locale"].split("+")

    def path(self, run: Run, name: str = "summary.json") -> str:
        """A file of a run."""
        return f"{self.folder}/{run.id}/{name}"

    def learning_rate(self, group: str) -> str:
        """The file with the learning rate of a group."""
        return f"{self.folder}/sweep/{group}/lr.json"

    def manifests(self, locale: str) -> str:
        """The report of a locale's preparation."""
        hours = self.hours_of_locale(locale)
        return f"{self.folder}/manifests/{locale}_{hours:g}h/manifest_report.json"

    def hours_of_locale(self, locale: str) -> float:
        """The most hours of training speech that any run asks for."""
        return max(hours for (_, other), hours in self.hours.items() if other == locale)

    def features(self, states: str, locale: str) -> str:
        """The marker of a locale's encoder states of a kind."""
        hours = self.hours[states, locale]
        return f"{self.folder}/features/{states}/{locale}_{hours:g}h.done"

    def basis(self, run: Run) -> str | None:
        """Name of the basis of a run, if it is made from speech."""
        if run["strategy"] not in FROM_SPEECH:
            return None
        return f"{run.model}/{label({name: run[name] for name in BASIS})}"

    def needs(self, run: Run) -> list[str]:
        """Files that must be there before a training.

        Arguments
        ---------
        run : Run
            The run.

        Returns
        -------
        list of str
            Of its learning rate, encoder states, basis, and of the runs that it
            starts from. None if it has finished: then nothing that is made anew can
            have it repeated.
        """
        if Path(self.path(run)).is_file():
            return []
        files = [self.features(states_of(run), loc) for loc in self._own_locales(run)]
        if run.id in self.study.donors:
            files.append(f"{self.folder}/speech.done")
        if run.group is not None:
            files.append(self.learning_rate(run.group))
        if name := self.basis(run):
            files.append(f"{self.folder}/basis/{name}.done")
        return files + [self.path(other) for other in starters_of(run, self.config)]

    def basis_needs(self, name: str) -> list[str]:
        """Files that must be there before a basis is made from speech."""
        learner = learner_of(self.bases[name], self.config)
        learnt = [self.path(learner)] if learner else []
        return [f"{self.folder}/speech.done", *learnt]

    def training(self, run: Run) -> list[str]:
        """Arguments of train.py, once the learning rate is chosen.

        Arguments
        ---------
        run : Run
            The run.

        Returns
        -------
        list of str

        Raises
        ------
        FileNotFoundError
            If it is not chosen yet.
        """
        places = {"output_folder": f"{self.folder}/{run.id}"}
        if run.group is not None:
            file = Path(self.learning_rate(run.group))
            places["lr"] = json.loads(file.read_text(encoding="utf-8"))["lr"]
        if run.id in self.study.donors:
            places["data_folder"] = f"{self.folder}/speech"
        for starter in starters_of(run, self.config):
            places["init_from"] = str(Path(self.folder, starter.id).parent)
        return command_line(run, self.options, **places)

    def basis_making(self, name: str) -> list[str]:
        """Arguments of make_basis.py."""
        run = self.bases[name]
        places = {
            "strategy": run["strategy"],
            "row_norm": run["row_norm"],
            "data_folder": f"{self.folder}/speech",
            "locale": "+".join(self.speech["locales"]),
            "calibration_utterances": self.speech.get("calibration_utterances"),
        }
        learner = learner_of(run, self.config)
        if learner is not None:
            places["init_from"] = self.path(learner, "adapter.safetensors")
        same = {name: run[name] for name in ("rank", *PLACES)}
        bare = make_run({"method": "sumra", "model": run.model, **same})
        return command_line(bare, self.options, **places)

    def encoding(self, states: str, locale: str) -> list[str]:
        """Arguments of compute_features.py."""
        run = self.states[states]
        bare = {"method": "unadapted", "model": run.model, "locale": locale}
        bare = make_run({**bare, **{name: run[name] for name in STATES}})
        hours = self.hours[states, locale]
        return command_line(bare, self.options, train_hours=hours)

    def preparation(self, locale: str) -> list[str]:
        """Arguments of common_voice_prepare.py."""
        runs = self.options["runs_folder"]
        settings = {
            **{
                name: self.options[name] for name in PREPARATION if name in self.options
            },
            "data_folder": self.options["data_folder"],
            "locale": locale,
            "train_hours": self.hours_of_locale(locale),
            "save_folder": str(Path(self.manifests(locale)).parent),
            "durations_file": f"{runs}/durations/{locale}.csv",
        }
        return [f"--{name}={as_text(value)}" for name, value in settings.items()]

    @property
    def donor_locales(self) -> list[str]:
        """The other languages of which speech is needed."""
        lists = (self.config.get("warm_starts") or {}).values()
        started = [name for entry in sum(lists, []) for name in entry.split("+")]
        return sorted({*self.speech.get("locales", []), *started})


def states_of(run: Run) -> str:
    """Name of the encoder states that a run reads: its model's, and what is unusual.

    Example
    -------
    >>> run = {"method": "sumra", "model": "whisper_base", "adapted_encoder_layers": 2}
    >>> states_of(make_run(run))
    'whisper_base_adapted_encoder_layers-2'
    """
    unusual = {name: run.settings[name] for name in STATES if name in run.settings}
    return f"{run.model}_{label(unusual)}" if unusual else run.model
