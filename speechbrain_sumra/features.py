"""Encoder states of utterances, computed once and read many times.

The encoder, or all but its last layers, is frozen, so an utterance has the same states
after that in every epoch, validation and test, and with every method, rank and seed.
"""

import hashlib
import os
import shutil
import zlib
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from speechbrain.utils.logger import get_logger
from torch.nn.utils.rnn import pad_sequence

from speechbrain_sumra.data import read_audio
from speechbrain_sumra.files import replacing
from speechbrain_sumra.precision import choose_precision, precision_dtype
from speechbrain_sumra.whisper import Whisper

logger = get_logger(__name__)

MODES = ("off", "ram", "disk")
FORMAT = "float16-2"  # changes when stored states are no longer what they were


class EncoderStates:
    """Encoder states kept as float16, in memory or on disk.

    Every utterance is encoded by itself and rounded to float16 whether or not
    it is kept, so what the decoder sees depends neither on the batch nor on
    the cache.  On disk there is one memory-mapped file an utterance, named by
    the base model, the encoder's settings (also of how many layers the states are) and
    the content of the audio file.
    It appears whole or not at all, so any number of processes can read and
    write, and a killed run leaves a usable cache.

    Arguments
    ---------
    mode : str
        "disk" (default), "ram" (lost with the process) or "off" (encode each
        time).
    folder : str or Path
        Where states are kept on disk.
    max_gigabytes : float
        Limit of what is kept, of all models and settings in the folder. An utterance
        takes frames x width x 2 bytes, with 50 frames a second: 51 kB a second for
        whisper-base, 77 kB for small, 128 kB for large; with the full encoder context
        always 30 s. What does not fit is computed each time.
    precision : str
        What the encoder multiplies in: "fp32" (default), "bf16", "fp16", or "auto";
        see ``choose_precision``.

    Attributes
    ----------
    full : bool
        Whether states were left out because there was no room.

    Raises
    ------
    ValueError
        If the mode is not one of these.

    Example
    -------
    >>> EncoderStates("disc")
    Traceback (most recent call last):
        ...
    ValueError: Unknown feature cache 'disc'; expected one of off, ram, disk.
    """

    def __init__(
        self,
        mode: str = "disk",
        folder: str | Path = "features",
        max_gigabytes: float = 50.0,
        precision: str = "fp32",
    ):
        if mode not in MODES:
            raise ValueError(
                f"Unknown feature cache {mode!r}; expected one of {', '.join(MODES)}."
            )
        self.mode = mode
        self.folder = Path(folder)
        self.max_bytes = int(max_gigabytes * 1e9)
        self.precision = precision
        self.full = False
        self._room = self.max_bytes  # for what is not kept yet
        self._memory: dict[str, torch.Tensor] = {}

    def plan(
        self, whisper: Whisper, seconds: Sequence[float], augmented: bool = False
    ) -> None:
        """Say how much room the states will take, and how many will fit.

        Arguments
        ---------
        whisper : Whisper
            The model that encodes.
        seconds : sequence of float
            Duration of each utterance whose states will be kept.
        augmented : bool
            Whether there are others, of augmented waveforms, which are not kept.
        """
        if augmented:
            logger.warning(
                "Training waveforms are augmented, which changes their encoder "
                "states: they are computed each time. Those of validation and test "
                "are kept."
            )
        if self.mode == "off":
            logger.info("Encoder states are computed each time (feature_cache: off).")
            return
        width = whisper.config.d_model
        rate = whisper.sampling_rate
        states = sum(whisper.count_states(int(duration * rate)) for duration in seconds)
        needed = states * width * 2
        place, there, others, free = "memory", 0, 0, self.max_bytes
        if self.mode == "disk":
            folder = self._folder_of(whisper)
            folder.mkdir(parents=True, exist_ok=True)
            place = str(folder)
            there = _bytes_in(folder)
            others = sum(map(_bytes_in, self.folder.iterdir())) - there
            free = shutil.disk_usage(folder).free
        logger.info(
            "Encoder states: about %.2f GB for %d utterances, in %s (%.2f GB there).",
            needed / 1e9,
            len(seconds),
            place,
            there / 1e9,
        )
        self._room = max(0, min(self.max_bytes - there - others, free))
        if needed > there + self._room:
            logger.warning(
                "There is room for %.2f GB of encoder states (limit "
                "--feature_cache_gb %.1f, free %.2f GB): the others are computed each "
                "time, which is slower. Make room, raise the limit, or choose "
                "another --feature_folder.",
                (there + self._room) / 1e9,
                self.max_bytes / 1e9,
                free / 1e9,
            )

    def __call__(
        self,
        paths: Sequence[str],
        whisper: Whisper,
        augment: Callable[[torch.Tensor], torch.Tensor] | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """States of a batch, kept ones where there are some.

        Arguments
        ---------
        paths : sequence of str
            Audio files.
        whisper : Whisper
            The model that encodes.
        augment : callable
            Changes a waveform (1, samples) at random; nothing is kept then.

        Returns
        -------
        states : torch.Tensor
            Shape (batch, frames, width), float32, padded with zeros.
        lengths : torch.Tensor
            Frames of each utterance, shape (batch,).
        """
        device = _device(whisper)
        states = [self._states_of(path, whisper, augment).to(device) for path in paths]
        lengths = torch.tensor([len(state) for state in states], device=device)
        return pad_sequence(states, batch_first=True).float(), lengths

    def _states_of(self, path, whisper, augment):
        if augment is not None or self.mode == "off":
            return self._encode(path, whisper, augment)
        key = _content_key(path)
        if self.mode == "ram":
            return self._from_memory(key, path, whisper)
        return self._from_disk(key, path, whisper)

    def _from_memory(self, key, path, whisper):
        if key not in self._memory:
            states = self._encode(path, whisper).cpu()
            if not self._has_room(states):
                return states
            self._memory[key] = states
        return self._memory[key]

    def _has_room(self, states) -> bool:
        """Whether these fit; if so, their room is taken."""
        if not self.full and states.nbytes > self._room:
            self.full = True
            logger.warning(
                "There is no room for more encoder states (--feature_cache_gb): those "
                "that are not kept are computed each time, which is slower. Make "
                "room, raise the limit, or choose another --feature_folder."
            )
        if not self.full:
            self._room -= states.nbytes
        return not self.full

    def _from_disk(self, key, path, whisper):
        file = self._folder_of(whisper) / key[:2] / f"{key}.safetensors"
        if file.exists():
            try:
                return _read(file)
            except (SafetensorError, OSError, ValueError) as error:
                logger.warning("%s is damaged (%s); computed again.", file, error)
        states = self._encode(path, whisper)
        if not self._has_room(states):
            return states
        try:
            _write(file, states.cpu())
        except OSError as error:
            logger.warning(
                "Encoder states cannot be kept (%s): those that are not there are "
                "computed each time from here on. Make room, or choose another "
                "--feature_folder.",
                error,
            )
            self.full = True
        return states

    def _folder_of(self, whisper: Whisper) -> Path:
        """Where states of this model and these settings are."""
        return self.folder / (
            f"{whisper.base_fingerprint[:16]}_{whisper.encoder_settings}_"
            f"{self._precision(whisper)}_{FORMAT}"
        )

    def _precision(self, whisper: Whisper) -> str:
        return choose_precision(self.precision, _device(whisper))

    def _encode(self, path, whisper, augment=None):
        wav = read_audio(path)
        if augment is not None:
            wav = augment(wav[None].to(_device(whisper)))[0]
        return encode_utterance(whisper, wav, self._precision(whisper))


def encode_utterance(
    whisper: Whisper, wav: torch.Tensor, precision: str, context: str | None = None
) -> torch.Tensor:
    """Encoder states of one utterance, by itself, rounded to float16.

    Arguments
    ---------
    whisper : Whisper
        The model that encodes.
    wav : torch.Tensor
        Waveform at 16 kHz, at most 30 s, shape (samples,).
    precision : str
        What the encoder multiplies in, whatever autocast says elsewhere: "fp32",
        "bf16" or "fp16".
    context : str
        "full" or "clip". Default: the model's.

    Returns
    -------
    torch.Tensor
        Shape (frames, width), float16.
    """
    device = _device(whisper)
    dtype = precision_dtype(precision)
    low = dtype != torch.float32
    with torch.no_grad(), torch.autocast(device.type, dtype, enabled=low):
        return whisper.encode(wav[None].to(device), context)[0].to(torch.float16)


def _device(whisper: Whisper) -> torch.device:
    return next(whisper.parameters()).device


def _write(file: Path, states: torch.Tensor) -> None:
    states = states.contiguous()
    checksum = str(zlib.crc32(states.numpy()))
    # Checked by its sum when it is read, and made again if it is wrong.
    with replacing(file, durable=False) as partial:
        partial.write_bytes(save({"states": states}, {"crc32": checksum}))


def _bytes_in(folder: Path) -> int:
    """Of the states of one model and settings."""
    return sum(path.stat().st_size for path in folder.glob("*/*.safetensors"))


def _read(file: Path) -> torch.Tensor:
    with safe_open(file, framework="pt") as opened:
        states = opened.get_tensor("states")
        expected = (opened.metadata() or {}).get("crc32")
    if str(zlib.crc32(states.numpy())) != expected:
        raise ValueError("its checksum is wrong")
    return states


def _content_key(path: str) -> str:
    """SHA-256 of an audio file; read again only if the file has changed."""
    status = os.stat(path)
    return _hash(str(path), status.st_size, status.st_mtime_ns)


@cache
def _hash(path: str, size: int, modified: int) -> str:
    del size, modified
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()
