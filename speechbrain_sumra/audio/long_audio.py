"""Audio of any length as segments that Whisper can read, cut in its pauses.

A file is read window by window, so that hours of it are never in memory.
Loudness is measured in frames of 20 ms; what is silence depends on the noise of
the window, so that a humming recording has pauses, too.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.lib.stride_tricks import sliding_window_view

from speechbrain_sumra.audio.audio_file import AudioStream, Source, open_audio
from speechbrain_sumra.audio.resampling import resampler

MAX_SECONDS = 28.0  # of a segment; Whisper reads 30
FRAME = 0.02  # seconds in which loudness is measured

# In frames. What is left out is longer than LONG_SILENCE; MARGIN of it stays.
LONG_SILENCE = 100
MARGIN = 15
# Speech that goes on is cut in the quietest PAUSE from EARLIEST to LATEST, or, if
# there is none, at the quietest place in all of the window.
PAUSE = 15
EARLIEST = 250
LATEST = 750

# In dB of full scale. Below the first all is silent, above the second nothing;
# between, what is less than NOISE_MARGIN above the noise.
SILENT = -60.0
AUDIBLE = -40.0
NOISE_MARGIN = 10.0


@dataclass
class AudioSegment:
    """A part of a file that can be transcribed at once.

    Attributes
    ----------
    start, end : float
        Where it is in the file, in seconds.
    samples : torch.Tensor
        Mono, 16 kHz, shape (samples,), at most ``MAX_SECONDS`` long.
    """

    start: float
    end: float
    samples: torch.Tensor


def read_segments(
    source: Source, max_seconds: float = math.inf
) -> Iterator[AudioSegment]:
    """The segments of an audio file, one after the other.

    A file of at most ``MAX_SECONDS`` is one segment as it is, for adapters are
    trained on whole clips. In longer ones, stretches of silence are left out and
    the rest is cut where it is quietest. Where nothing can be heard there is no
    segment.

    Arguments
    ---------
    source : str, Path or binary file
        What ``open_audio`` reads.
    max_seconds : float
        What is longer is an error when so much of it is read.

    Yields
    ------
    AudioSegment
        In order; they do not overlap.

    Raises
    ------
    AudioError
        If the file cannot be read, holds no samples or numbers that are none, is
        shorter than it says, or too long.

    Example
    -------
    >>> import soundfile
    >>> path = getfixture("tmp_path") / "a.wav"
    >>> tone, silence = np.sin(np.arange(160_000)), np.zeros(320_000)
    >>> soundfile.write(path, np.concatenate([tone, silence, tone]), 16000)
    >>> for segment in read_segments(path):
    ...     print(segment.start, segment.end, tuple(segment.samples.shape))
    0.0 10.3 (164800,)
    29.7 40.0 (164800,)
    """
    with open_audio(source, max_seconds) as audio:
        yield from _segments(_Window(audio))


class _Window:
    """The part of a file that is in memory: mono, at the file's own rate."""

    def __init__(self, audio: AudioStream):
        self.audio = audio
        self.rate = audio.rate
        self.hop = round(self.rate * FRAME)
        self.samples = np.zeros(0, dtype=np.float32)

    def fill(self) -> None:
        """Read on until the window is full or the file ends."""
        wanted = int(MAX_SECONDS * self.rate) - len(self.samples)
        if wanted and not self.audio.ended:
            self.samples = np.concatenate([self.samples, self.audio.read(wanted)])

    @property
    def start(self) -> int:
        """Samples that came before."""
        return self.audio.position - len(self.samples)

    def levels(self) -> np.ndarray:
        """Loudness of each frame in dB of full scale, without its mean."""
        padded = np.pad(self.samples, (0, -len(self.samples) % self.hop), mode="edge")
        power = padded.reshape(-1, self.hop).var(axis=1)
        return 10 * np.log10(np.maximum(power, 1e-12))

    def segment(self, frames: int) -> AudioSegment:
        """The first frames, to be transcribed."""
        samples = self.samples[: frames * self.hop]
        start, end = self.start, self.start + len(samples)
        resampled = resampler(self.rate)(torch.tensor(samples))
        return AudioSegment(start / self.rate, end / self.rate, resampled)

    def drop(self, frames: int) -> None:
        """Go on after the first frames."""
        self.samples = self.samples[frames * self.hop :]


def _segments(window: _Window) -> Iterator[AudioSegment]:
    window.fill()
    if window.audio.ended:
        levels = window.levels()
        if levels.max() > _silence(levels):
            yield window.segment(len(levels))
        return
    while len(window.samples):
        levels = window.levels()
        left_out = _leading_silence(levels, window.audio.ended)
        if not left_out:
            end = _find_end(levels, window.audio.ended)
            yield window.segment(end)
        window.drop(left_out or end)
        window.fill()


def _silence(levels: np.ndarray) -> float:
    """The level up to which frames are silent; a tenth of them are noise."""
    noise = np.percentile(levels, 10)
    return float(np.clip(noise + NOISE_MARGIN, SILENT, AUDIBLE))


def _leading_silence(levels: np.ndarray, ended: bool) -> int:
    """Frames to leave out before the next segment: all but ``MARGIN``."""
    heard = np.flatnonzero(levels > _silence(levels))
    if not len(heard):
        return len(levels) if ended else len(levels) - MARGIN
    return max(int(heard[0]) - MARGIN, 0)


def _find_end(levels: np.ndarray, ended: bool) -> int:
    """Frames of the segment that starts with a window.

    It ends at a long silence, at the end of the file or, if that is far away, in a
    pause; without any, at the quietest place.
    """
    silence = _silence(levels)
    # As if there were speech after the window, far away if the file has ended.
    after = len(levels) + (LONG_SILENCE if ended else 0)
    heard = np.append(np.flatnonzero(levels > silence), after)
    long = np.flatnonzero(np.diff(heard) > LONG_SILENCE)
    goes_on = not len(long)
    end = len(levels) if goes_on else int(heard[long[0]]) + 1 + MARGIN
    end = min(end, len(levels))
    if end <= LATEST:
        return end
    # Of each stretch of PAUSE frames that may be cut in its middle, the loudest.
    stretches = sliding_window_view(levels[EARLIEST:end], PAUSE).max(axis=1)
    early = stretches[: min(LATEST, end - EARLIEST) - EARLIEST]
    if early.min() <= silence:
        return EARLIEST + int(early.argmin()) + PAUSE // 2
    return EARLIEST + int(stretches.argmin()) + PAUSE // 2 if goes_on else end
