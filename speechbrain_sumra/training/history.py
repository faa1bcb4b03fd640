"""The course of a run: one record a validation, seconds a phase, a plot."""

import json
import math
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from speechbrain.utils import checkpoints

from speechbrain_sumra.files import replacing


@checkpoints.register_checkpoint_hooks
class History:
    """What a run did so far; a checkpoint keeps it, so resuming continues it.

    Attributes
    ----------
    records : list of dict
        One for each validation: epoch, lr, train_loss, valid_loss, and where
        hypotheses were decoded WER and CER.
    seconds : Counter
        Wall time of each phase, over all the times the run was resumed.

    Example
    -------
    >>> history = History()
    >>> with history.phase("test"):
    ...     pass
    >>> list(history.seconds)
    ['test']
    """

    def __init__(self):
        self.records: list[dict] = []
        self.seconds: Counter = Counter()

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Add the time that the block takes to a phase."""
        start = time.monotonic()
        try:
            yield
        finally:
            self.seconds[name] += time.monotonic() - start

    @checkpoints.mark_as_saver
    def save(self, path):
        """Write the history into a checkpoint."""
        state = {"records": self.records, "seconds": self.seconds}
        Path(path).write_text(json.dumps(state, indent=1), encoding="utf-8")

    @checkpoints.mark_as_loader
    def load(self, path, end_of_epoch=False):
        """Continue the history of a checkpoint; what was measured before it counts."""
        del end_of_epoch
        state = json.loads(Path(path).read_text(encoding="utf-8"))
        self.records = state["records"]
        self.seconds.update(state["seconds"])

    def plot(self, path: str | Path) -> None:
        """Draw loss, error rates and learning rate over the epochs.

        Arguments
        ---------
        path : str or Path
            The PNG file to write.
        """
        figure, lines = _figure()
        epochs = [record["epoch"] for record in self.records]
        for key, line in lines.items():
            values = [record.get(key, math.nan) for record in self.records]
            line.set_data(epochs, values)
        for axes in figure.axes:
            axes.relim()
            axes.autoscale()
        for axes in figure.axes[1:]:
            axes.set_ylim(bottom=0)
        with replacing(path) as partial:
            figure.savefig(partial, dpi=120, format="png")


@cache
def _figure():
    """A figure and its lines by the keys of records.

    Only one is made: those of earlier plots would keep megabytes for a while.
    """
    from matplotlib.figure import Figure  # slow to import

    figure = Figure(figsize=(7, 8))
    figure.subplots_adjust(left=0.14, right=0.97, bottom=0.07, top=0.98, hspace=0.08)
    losses, rates, learning_rate = figure.subplots(3, 1, sharex=True)

    def line(axes, label):
        return axes.plot([], [], marker="o", markersize=3, label=label)[0]

    lines = {
        "train_loss": line(losses, "training"),
        "valid_loss": line(losses, "validation"),
        "WER": line(rates, "WER"),
        "CER": line(rates, "CER"),
        "lr": line(learning_rate, "learning rate"),
    }
    losses.set_ylabel("loss (nats a token)")
    losses.legend()
    rates.set_ylabel("validation error (%)")
    rates.legend()
    learning_rate.set_ylabel("learning rate")
    learning_rate.set_xlabel("epochs")
    for axes in figure.axes:
        axes.grid(alpha=0.3)
    return figure, lines
