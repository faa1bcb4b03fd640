"""From any sample rate to Whisper's."""

import math
from functools import lru_cache

from torchaudio.transforms import Resample

SAMPLE_RATE = 16000  # Whisper's
# Divisors of it, of which rates are made multiples.
STEPS = (10, 20, 50, 100, 200)
KEPT = 8  # filters


def resampler(rate: int) -> Resample:
    """Resamples waveforms to 16 kHz.

    A filter for 44100 Hz takes 0.3 MB, one for 44101 Hz would take 3 GB, and a file
    may name any rate: what has too small a factor in common with 16000 is taken for
    the nearest multiple of 10 Hz (up to 24 kHz), 20 (48), 50 (120), 100 (240) or 200.
    Then no filter takes more than 16 MB. Above 10 kHz, speed and pitch are off by
    0.05 % at most, a hundredth of a semitone; a twentieth can hardly be heard.

    Arguments
    ---------
    rate : int
        Samples a second, 1000 to 384000.

    Returns
    -------
    torchaudio.transforms.Resample
        Shape (..., samples) -> (..., samples * 16000 / rate). The last ``KEPT`` are
        kept.

    Example
    -------
    >>> [resampler(rate).orig_freq for rate in (8000, 44100, 44101, 383_999)]
    [8000, 44100, 44100, 384000]
    """
    step = next(step for step in STEPS if rate <= 2400 * step)
    divides = math.gcd(rate, SAMPLE_RATE) >= step
    return _resampler(rate if divides else step * round(rate / step))


@lru_cache(KEPT)
def _resampler(rate: int) -> Resample:
    return Resample(rate, SAMPLE_RATE)
