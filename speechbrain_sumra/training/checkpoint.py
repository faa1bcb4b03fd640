"""SpeechBrain's checkpoints, each of which is whole or not there."""

import hashlib
import json
import logging
import os
import random
import shutil
from pathlib import Path

import torch
import yaml
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
DIGESTS = "digests.json"
DAMAGED = (
    "{} is damaged. Remove the folder {} and start again: the run goes on from an "
    "older checkpoint, if there is any."
)


class CheckpointError(ValueError):
    """A checkpoint that cannot be loaded."""


class Checkpointer(checkpoints.Checkpointer):
    """As the parent; a process that is killed leaves no part of a checkpoint.

    The parent writes into the checkpoint's folder, beginning with the file that
    makes it a checkpoint, and deletes file by file. Here the folder is written
    elsewhere, flushed to the disk and moved to its place, and one that lacks a file
    is not taken for a checkpoint. A file that has changed since is not loaded.

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
        """As the parent, without those whose deletion was interrupted.

        Raises
        ------
        CheckpointError
            If what tells checkpoints apart is damaged.
        """
        return [_read(folder) for folder in self._folders() if _is_whole(folder)]

    def recover_if_possible(self, *args, **kwargs):
        """As the parent; says which checkpoints are left out."""
        for folder in self._folders():
            if not _is_whole(folder):
                logger.warning("%s lacks files: it is left out.", folder)
        return super().recover_if_possible(*args, **kwargs)

    def load_checkpoint(self, checkpoint):
        """As the parent.

        Raises
        ------
        CheckpointError
            If a file of it is not as it was written.
        """
        verify(checkpoint)
        super().load_checkpoint(checkpoint)

    def _folders(self) -> list[Path]:
        return sorted(self.checkpoints_dir.glob(f"{checkpoints.CKPT_PREFIX}+*"))


def verify(checkpoint: checkpoints.Checkpoint) -> None:
    """Compare the files of a checkpoint with the digests from when it was written.

    Arguments
    ---------
    checkpoint : Checkpoint
        As ``list_checkpoints`` gives them.

    Raises
    ------
    CheckpointError
        If a file is damaged.
    """
    for name, digest in _digests(checkpoint.path).items():
        _verify_file(checkpoint.path / name, digest)


def _verify_file(file: Path, digest: str) -> None:
    if _digest(file) != digest:
        raise CheckpointError(DAMAGED.format(file, file.parent))


def _is_whole(folder: Path) -> bool:
    """Whether all files are there; the digests are written last."""
    if not (folder / DIGESTS).exists():
        return False
    return all((folder / name).exists() for name in _digests(folder))


def _read(folder: Path) -> checkpoints.Checkpoint:
    """What identifies a checkpoint; its files stay unread."""
    names = _digests(folder)
    _verify_file(folder / checkpoints.METAFNAME, names[checkpoints.METAFNAME])
    meta = yaml.safe_load((folder / checkpoints.METAFNAME).read_text("utf-8"))
    files = {Path(name).stem: folder / name for name in names}
    del files[Path(checkpoints.METAFNAME).stem]
    return checkpoints.Checkpoint(folder, meta, files)


def _digests(folder: Path) -> dict[str, str]:
    """SHA-256 of the files of a checkpoint, by name."""
    file = folder / DIGESTS
    try:
        digests = json.loads(file.read_text(encoding="utf-8"))
        return {checkpoints.METAFNAME: "", **digests}
    except (ValueError, TypeError) as error:
        raise CheckpointError(DAMAGED.format(file, folder)) from error


def _digest(file: Path) -> str:
    with open(file, "rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def _move(saved: checkpoints.Checkpoint, place: Path) -> checkpoints.Checkpoint:
    """Put a finished checkpoint among the others; saved there, under a free name."""
    start, number = saved.path.name, 0
    target = place / start
    while target.exists():
        number += 1
        target = place / f"{start}+{number}"
    digests = {file.name: _digest(file) for file in sorted(saved.path.iterdir())}
    (saved.path / DIGESTS).write_text(json.dumps(digests), encoding="utf-8")
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
    states of the main one, as SpeechBrain gives all the same seed; a GPU with what the
    main process had for that GPU, which is its seed where it has not drawn from it.

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
