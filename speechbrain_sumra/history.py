"""The course of a run: one record a validation, seconds a phase, a plot."""

import gc
import json
import math
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
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
        """Continue the history of a checkpoint."""
        del end_of_epoch
        state = json.loads(Path(path).read_text(encoding="utf-8"))
        self.records = state["records"]
        self.seconds = Counter(state["seconds"])

    def plot(self, path: str | Path) -> None:
        """Draw loss, error rates and learning rate over the epochs.

        Arguments
        ---------
        path : str or Path
            The PNG file to write.
        """
        from matplotlib.figure import Figure  # slow to import

        figure = Figure(figsize=(7, 8), layout="constrained")
        losses, rates, learning_rate = figure.subplots(3, 1, sharex=True)
        epochs = [record["epoch"] for record in self.records]

        def draw(axes, key, label):
            values = [record.get(key, math.nan) for record in self.records]
            axes.plot(epochs, values, marker="o", markersize=3, label=label)

        draw(losses, "train_loss", "training")
        draw(losses, "valid_loss", "validation")
        losses.set_ylabel("loss (nats a token)")
        losses.legend()
        draw(rates, "WER", "WER")
        draw(rates, "CER", "CER")
        rates.set_ylabel("validation error (%)")
        rates.set_ylim(bottom=0)
        rates.legend()
        draw(learning_rate, "lr", "learning rate")
        learning_rate.set_ylabel("learning rate")
        learning_rate.set_ylim(bottom=0)
        learning_rate.set_xlabel("epochs")
        for axes in (losses, rates, learning_rate):
            axes.grid(alpha=0.3)
        with replacing(path) as partial:
            figure.savefig(partial, dpi=120, format="png")
        # Figures refer to themselves, and would stay for some validations.
        del figure, losses, rates, learning_rate, axes
        gc.collect()
