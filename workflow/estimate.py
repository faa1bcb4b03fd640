"""How far a study is, and how long and how large the rest will be."""

import itertools
import json
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from statistics import mean, median

from graph import PLACES, states_of
from run import Run, as_text
from study import Study, options_of

SPLITS = ("train_hours", "dev_hours", "test_hours")


class Estimate:
    """Time and disk of a study.

    The config's ``estimate`` has for each model "start": seconds before and after the
    work, "hour": seconds to train on an hour of speech once, "decode": seconds of all
    validations and the test of a run, "states": megabytes of an hour's encoder states,
    "run": megabytes of a finished run; and under "hours" how much speech there is to
    train on in a locale, where less than asked for. Finished runs correct these
    figures, first of all for others of the same method in the same layers.

    Arguments
    ---------
    study : Study
        What is to be done.
    config : mapping
        Its config.
    folder : str or Path
        Where its runs are.

    Attributes
    ----------
    summaries : dict of str to dict
        Of finished runs, by id.
    """

    def __init__(self, study: Study, config: Mapping, folder: str | Path):
        self.study = study
        self.config = config
        self.folder = Path(folder)
        self.options = options_of(config)
        self.summaries = {
            name: json.loads(file.read_text(encoding="utf-8"))
            for name in study.trainings
            if (file := self.folder / name / "summary.json").is_file()
        }
        trainings = study.trainings
        self._ratios, self._bytes = defaultdict(list), defaultdict(list)
        for name, summary in self.summaries.items():
            run = trainings[name]
            seconds = sum(summary.get("seconds", {}).values())
            if seconds:
                ratio = seconds / self._from_config(run)
                self._ratios[self._kind(run)].append(ratio)
            files = (self.folder / name).rglob("*")
            size = sum(file.stat().st_size for file in files if file.is_file())
            self._bytes[self._kind(run)].append(size)

    def _kind(self, run: Run) -> tuple:
        places = (self._setting(run, name) for name in PLACES)
        return run.method, *places, run.model, self._setting(run, "decode")

    def _setting(self, run: Run, name: str):
        return run.settings.get(name, self.options.get(name, run[name]))

    def _cost(self, run: Run, name: str) -> float:
        """A figure of the config."""
        return ((self.config.get("estimate") or {}).get(run.model) or {}).get(name, 0)

    def _hours(self, run: Run, locale: str, split: str) -> float:
        """Hours of speech of one of a run's locales."""
        asked = self._setting(run, split)
        if run.id in self.study.donors:
            return min(asked, self.config["shared_speech"].get("hours", asked))
        available = (self.config.get("estimate") or {}).get("hours") or {}
        return min(asked, available.get(locale, asked))

    def _from_config(self, run: Run) -> float:
        """Seconds of a run, if only the config were known."""
        seconds = self._cost(run, "start")
        if self._setting(run, "lr"):
            hours = sum(
                self._hours(run, locale, "train_hours")
                for locale in run["locale"].split("+")
            )
            epochs = self._setting(run, "number_of_epochs")
            seconds += self._cost(run, "hour") * hours * epochs
        if self._setting(run, "decode"):
            seconds += self._cost(run, "decode")
        return seconds or 1

    def seconds(self, run: Run) -> float:
        """Seconds that a run will take.

        Arguments
        ---------
        run : Run
            One that has not finished.

        Returns
        -------
        float
        """
        return self._from_config(run) * median(self._ratios_of(self._kind(run)))

    def _ratios_of(self, kind: tuple) -> list[float]:
        """How much longer than the config says alike runs took.

        Of the same kind; else of other methods in the same layers; else in any layers.
        """
        for same in (0, 1, 1 + len(PLACES)):
            alike = (r for k, r in self._ratios.items() if k[same:] == kind[same:])
            if ratios := list(itertools.chain.from_iterable(alike)):
                return ratios
        return [1]

    @property
    def seconds_left(self) -> float:
        """Seconds of all runs that have not finished, one after the other."""
        return sum(
            self.seconds(run)
            for name, run in self.study.trainings.items()
            if name not in self.summaries
        )

    @property
    def bytes(self) -> float:
        """Bytes of encoder states and runs when all is done."""
        states, runs = defaultdict(float), 0.0
        for run in self.study.trainings.values():
            for locale in run["locale"].split("+"):
                hours = sum(self._hours(run, locale, split) for split in SPLITS)
                place = states_of(run), locale
                size = self._cost(run, "states") * hours * 1e6
                states[place] = max(states[place], size)
            if measured := self._bytes.get(self._kind(run)):
                runs += mean(measured)
            elif self._setting(run, "decode"):  # else there is no adapter file
                runs += self._cost(run, "run") * 1e6
        return sum(states.values()) + runs

    def outdated(self) -> list[str]:
        """Finished runs whose learning rate is not the one that is chosen now.

        Returns
        -------
        list of str
            Their ids: values were added to a sweep after they had started.
        """
        chosen = self.learning_rates()
        return [
            name
            for name, summary in self.summaries.items()
            if (group := self.study.trainings[name].group) in chosen
            and summary["lr"] != chosen[group]["lr"]
        ]

    def learning_rates(self) -> dict[str, dict]:
        """What ``choose_learning_rate`` found, by group."""
        files = {g: self.folder / "sweep" / g / "lr.json" for g in self.study.sweeps}
        return {
            group: json.loads(file.read_text(encoding="utf-8"))
            for group, file in files.items()
            if file.is_file()
        }

    def text(self, at_once: int) -> str:
        """What a user wants to know before starting.

        Arguments
        ---------
        at_once : int
            Runs that can run at the same time.

        Returns
        -------
        str
            Some lines.
        """
        swept = {name for runs in self.study.sweeps.values() for name in runs}

        def count(names, what):
            finished = sum(name in self.summaries for name in names)
            return f"{len(names)} {what}, {finished} of them finished"

        rates = len(self.study.sweeps)
        lines = [f"{self.config['name']}: {count(self.study.runs, 'runs')}"]
        if rates:
            lines.append(count(swept, f"sweep runs for {rates} learning rates"))
        if self.study.donors:
            lines.append(count(self.study.donors, "runs on other languages"))
        lines.append(
            f"about {self.seconds_left / 3600 / at_once:.1f} hours left with {at_once} "
            f"at a time, {self.bytes / 1e9:.1f} GB of disk in all"
        )
        edges = [
            f"{group} ({as_text(found['lr'])})"
            for group, found in self.learning_rates().items()
            if found["at_edge"]
        ]
        if edges:
            lines.append(f"best at the edge of what was tried: {', '.join(edges)}")
        if self.outdated():
            lines.append(
                "trained with another learning rate than is best now; remove their "
                f"folders in {self.folder} to repeat them: {', '.join(self.outdated())}"
            )
        return "\n".join(lines)
