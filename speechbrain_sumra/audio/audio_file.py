"""Audio files for reading from start to end, and what is wrong with bad ones."""

import math
import os
import shutil
import struct
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import BinaryIO

import numpy as np
import soundfile

RATES = range(1000, 384_001)
CHANNELS = 32  # at most; a header may say 1024
BLOCK = 2**20  # numbers that are decoded at a time, of all channels together
# What has the range of 16-bit integers is still heard; powers of more overflow.
LOUDEST = 1e6
# From here on a length stands for "unknown", as in what is written to a pipe.
UNKNOWN_LENGTH = 0x7FFF0000
# Seconds by which a header may be wrong; those of mp3 files are off by 40 ms.
TOLERANCE = 0.5

Source = str | os.PathLike | BinaryIO


class AudioError(ValueError):
    """A file that holds no audio, or audio that cannot be read to its end."""


class EmptyAudioError(AudioError):
    """A file without a single sample."""


def source_name(source: Source) -> str:
    """What a file or file object is called in messages, in printable characters.

    Example
    -------
    >>> import sys
    >>> source_name("clips/a.mp3"), source_name(sys.__stdin__.buffer)
    ('clips/a.mp3', '<stdin>')
    """
    if not isinstance(source, (str, os.PathLike)):
        return str(getattr(source, "name", "audio"))
    return os.fsencode(source).decode(errors="replace")


class AudioStream:
    """An open audio file that is read from start to end, as mono.

    Arguments
    ---------
    sound : soundfile.SoundFile
        The file.
    max_seconds : float
        It may not be longer, whatever it says of itself. Default: any length.

    Attributes
    ----------
    rate : int
        Samples a second.
    position : int
        Samples read so far.
    ended : bool
        Whether that is all.
    """

    def __init__(self, sound: soundfile.SoundFile, max_seconds: float = math.inf):
        self._sound = sound
        self._max_seconds = max_seconds
        self.rate = sound.samplerate
        self.position = 0
        self.ended = False

    def read(self, number: int) -> np.ndarray:
        """The next samples, float32; fewer than asked for at the end of the file.

        Memory is taken for what is there, not for what a header promises.

        Raises
        ------
        AudioError
            If they cannot be decoded, are no numbers of a sound, end too soon or
            not soon enough.
        """
        blocks = [np.zeros(0, dtype=np.float32)]
        while number and not self.ended:
            blocks.append(self._read_block(min(number, BLOCK // self._sound.channels)))
            number -= len(blocks[-1])
        return np.concatenate(blocks)

    def _read_block(self, number: int) -> np.ndarray:
        try:
            block = self._sound.read(number, dtype="float32", always_2d=True)
        except soundfile.SoundFileError as error:
            raise AudioError(
                f"is damaged or truncated after {self.position / self.rate:.1f} s "
                f"({_cause(error)})."
            ) from error
        sound = (np.abs(block) < LOUDEST).all(axis=1)  # NaN is not, either
        if not sound.all():
            first = sound.argmin()
            seconds = (self.position + first) / self.rate
            raise AudioError(
                f"holds a sample that is no sound, {np.abs(block[first]).max():g} at "
                f"{seconds:.2f} s; expected numbers from about -1 to 1."
            )
        self.position += len(block)
        if self.position > self._max_seconds * self.rate:
            raise AudioError(f"is longer than {self._max_seconds:g} s.")
        promised = self._sound.frames
        self.ended = len(block) < number or self.position >= promised
        if self.ended:
            self._check_length(promised)
        return block.mean(axis=1)

    def _check_length(self, promised: int) -> None:
        if not self.position:
            raise EmptyAudioError("holds no samples.")
        missing = (promised - self.position) / self.rate
        if missing > TOLERANCE and promised < UNKNOWN_LENGTH:
            raise AudioError(
                f"is truncated: its header says {promised / self.rate:.1f} s, found "
                f"{self.position / self.rate:.1f} s."
            )


@contextmanager
def open_audio(source: Source, max_seconds: float = math.inf) -> Iterator[AudioStream]:
    """Open an audio file.

    Arguments
    ---------
    source : str, Path or binary file
        What libsndfile reads: wav, flac, ogg, mp3, ...; at most ``CHANNELS``
        channels. A pipe is first copied to a temporary file.
    max_seconds : float
        As for ``AudioStream``.

    Yields
    ------
    AudioStream

    Raises
    ------
    AudioError
        If the file cannot be read, also later; the message names it.

    Example
    -------
    >>> path = getfixture("tmp_path") / "a.wav"
    >>> soundfile.write(path, np.zeros((8000, 2)), 16000)
    >>> with open_audio(path) as audio:
    ...     print(audio.read(10000).shape, audio.ended)
    (8000,) True
    """
    name = source_name(source)
    with ExitStack() as opened:
        try:
            yield AudioStream(_open(source, opened), max_seconds)
        except OSError as error:
            cause = error.strerror or error
            raise AudioError(f"{name} cannot be read: {cause}.") from error
        except AudioError as error:
            raise type(error)(f"{name} {error}") from error


class _Sound(soundfile.SoundFile):
    """Not to be moved in: soundfile would do so after each read, inexactly in mp3."""

    def seekable(self) -> bool:
        return False


class _Endless:
    """A file that seems to have no end.

    Of an mp3 file that does not say how long it is, libsndfile makes a guess from
    the size, and reads no further.
    """

    def __init__(self, file: BinaryIO):
        self.file = file
        self.readinto = file.readinto
        self.at_end = False

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> None:
        self.at_end = whence == os.SEEK_END
        if not self.at_end:
            self.file.seek(offset, whence)

    def tell(self) -> int:
        return 1 << 50 if self.at_end else self.file.tell()


def _open(source: Source, opened: ExitStack) -> soundfile.SoundFile:
    is_path = isinstance(source, (str, os.PathLike))
    file = source
    if is_path:
        if b"\0" in os.fsencode(source):
            raise AudioError("cannot be read: no path holds a null character.")
        file = opened.enter_context(open(source, "rb"))  # noqa: SIM115
    if not file.seekable():
        is_path, pipe = False, file
        file = opened.enter_context(tempfile.TemporaryFile())  # noqa: SIM115
        shutil.copyfileobj(pipe, file)
    found = _check_bytes(file)
    if _has_no_length(file):
        readable = _Endless(file)
    else:
        # By its path, libsndfile reads it faster and knows its extension. As bytes,
        # because soundfile refuses a name that is no text.
        readable = os.fsencode(source) if is_path else file
    try:
        sound = opened.enter_context(_Sound(readable))
    except soundfile.SoundFileError as error:
        raise AudioError(f"is no audio ({_cause(error)}), found {found}.") from error
    if sound.samplerate not in RATES:
        raise AudioError(
            f"has a sample rate of {sound.samplerate} Hz; expected {RATES[0]} to "
            f"{RATES[-1]} Hz."
        )
    if sound.channels > CHANNELS:
        raise AudioError(f"has {sound.channels} channels; expected 1 to {CHANNELS}.")
    return sound


def _cause(error: soundfile.SoundFileError) -> str:
    return f"libsndfile: {getattr(error, 'error_string', str(error)).rstrip('.')}"


def _check_bytes(file: BinaryIO) -> str:
    """What a file holds; of a truncated wav file libsndfile would read the rest."""
    file.seek(0)
    head = file.read(8)
    size = file.seek(0, os.SEEK_END)
    if not size:
        raise EmptyAudioError("is empty: 0 bytes.")
    if len(head) == 8 and head[:4] == b"RIFF":
        declared = struct.unpack("<I", head[4:])[0] + len(head)
        if size + 64 < declared < UNKNOWN_LENGTH:
            raise AudioError(
                f"is truncated: its header says {declared} bytes, found {size}."
            )
    file.seek(0)
    return f"{size} bytes that start with {head!r}"


def _has_no_length(file: BinaryIO) -> bool:
    """Whether it is an mp3 file that does not say how long it is."""
    head, first = file.read(10), 0
    if head[:3] == b"ID3":
        sizes = zip(head[6:], (21, 14, 7, 0), strict=False)
        first = 10 + sum(byte << shift for byte, shift in sizes)
    file.seek(first)
    frame = file.read(200)
    file.seek(0)
    is_mp3 = frame[:1] == b"\xff" and frame[1:2] >= b"\xe0"
    return is_mp3 and not any(mark in frame for mark in (b"Xing", b"Info", b"VBRI"))
