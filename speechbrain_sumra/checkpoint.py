"""SpeechBrain's checkpoints, each of which is whole or not there."""

import logging
import os
import random
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from speechbrain.utils import checkpoints
from speechbrain.utils.distributed import (
    ddp_barrier,
    if_main_process,
    main_process_only,
)
from speechbrain.utils.logger import get_logger

from speechbrain_sumra.files import flush

logger = get_logger(__name__)

UNFINISHED = "unfinished"


class CheckpointError(ValueError):
    """A checkpoint that cannot be loaded."""


class Checkpointer(checkpoints.Checkpointer):
    """As the parent; a process that is killed leaves no part of a checkpoint.

    The parent writes into the checkpoint's folder, beginning with the file that
    makes it a checkpoint, and deletes file by file. Here the folder is written
    elsewhere, flushed to the disk and moved to its place, and one that lacks a file
    is not taken for a checkpoint.

    Arguments
    ---------
    checkpoints_dir, recoverables, ...
        As for the parent.

    Example
    -------
    >>> folder = getfixture("tmp_path")
    >>> layer = torch.nn.Linear(2, 2)
    >>> checkpointer = Checkpointer(folder, {"layer": layer})
    >>> saved = checkpointer.save_checkpoint({"WER": 50.0})
    >>> checkpointer.recover_if_possible(min_key="WER") == saved
    True
    >>> saved.paramfiles["layer"].unlink()
    >>> checkpointer.recover_if_possible() is None
    True
    """

    def save_checkpoint(
        self, meta=None, end_of_epoch=True, name=None, verbosity=logging.INFO
    ):
        """As the parent, all or nothing."""
        place, unfinished = self.checkpoints_dir, self.checkpoints_dir / UNFINISHED
        if if_main_process():
            shutil.rmtree(unfinished, ignore_errors=True)
        self.checkpoints_dir = unfinished
        try:
            saved = super().save_checkpoint(
                meta or {}, end_of_epoch, name, logging.DEBUG
            )
        finally:
            self.checkpoints_dir = place
        if saved is not None:  # of several processes one saves
            saved = _move(saved, place)
            logger.log(verbosity, "Saved a checkpoint in %s", saved.path)
        ddp_barrier()  # or another process would list the folder before the move
        return saved

    def list_checkpoints(self):
        """As the parent, without those whose deletion was interrupted."""
        needed = {
            name
            for name in self.recoverables
            if not self.optional_recoverables.get(name) and "dataloader" not in name
        }
        found = super().list_checkpoints()
        return [saved for saved in found if needed <= saved.paramfiles.keys()]

    def recover_if_possible(self, *args, **kwargs):
        """As the parent; says which checkpoints are left out."""
        whole = {saved.path for saved in self.list_checkpoints()}
        for saved in super().list_checkpoints():
            if saved.path not in whole:
                logger.warning("%s lacks files: it is left out.", saved.path)
        return super().recover_if_possible(*args, **kwargs)

    def load_checkpoint(self, checkpoint):
        """As the parent.

        Raises
        ------
        CheckpointError
            If a file of it is damaged.
        """
        with named_if_damaged(checkpoint):
            super().load_checkpoint(checkpoint)


@contextmanager
def named_if_damaged(*read: checkpoints.Checkpoint) -> Iterator[None]:
    """Turn what goes wrong when checkpoints are read into one clear error.

    Arguments
    ---------
    *read : Checkpoint
        What the block reads.

    Raises
    ------
    CheckpointError
        If the block fails.
    """
    try:
        yield
    except Exception as error:  # each saver has other errors
        names = " or ".join(str(checkpoint.path) for checkpoint in read)
        raise CheckpointError(
            f"The checkpoint {names} cannot be loaded ({error}). Remove that folder "
            "and start again: the run goes on from an older one, if there is any."
        ) from error


def _move(saved: checkpoints.Checkpoint, place: Path) -> checkpoints.Checkpoint:
    """Put a finished checkpoint among the others; saved there, under a free name."""
    start, number = saved.path.name, 0
    target = place / start
    while target.exists():
        number += 1
        target = place / f"{start}+{number}"
    for file in saved.path.iterdir():
        flush(file)
    flush(saved.path)
    os.rename(saved.path, target)
    saved.path.parent.rmdir()
    flush(place)
    files = {name: target / file.name for name, file in saved.paramfiles.items()}
    return checkpoints.Checkpoint(target, saved.meta, files)


@checkpoints.register_checkpoint_hooks
class RandomState:
    """The random states of a process, so that a resumed run draws what it would have.

    Of torch on the CPU and on GPUs, and of Python. All processes continue with the
    states of the main one, as SpeechBrain gives all the same seed.

    Example
    -------
    >>> state = RandomState()
    >>> path = getfixture("tmp_path") / "random.ckpt"
    >>> state.save(path)
    >>> first = torch.rand(1), random.random()
    >>> state.load(path)
    >>> (torch.rand(1), random.random()) == first
    True
    """

    @checkpoints.mark_as_saver
    @main_process_only
    def save(self, path):
        """Write the states of the main process into a checkpoint."""
        state = {
            "torch": torch.get_rng_state(),
            "cuda": torch.cuda.get_rng_state_all(),
            "python": random.getstate(),
        }
        torch.save(state, path)

    @checkpoints.mark_as_loader
    def load(self, path, end_of_epoch=False):
        """Continue from the states of a checkpoint."""
        del end_of_epoch
        state = torch.load(path, weights_only=True)
        torch.set_rng_state(state["torch"])
        random.setstate(state["python"])
        if len(state["cuda"]) == torch.cuda.device_count():
            torch.cuda.set_rng_state_all(state["cuda"])
