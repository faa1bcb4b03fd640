"""From any sample rate to Whisper's."""

import math
from functools import cache

from torchaudio.transforms import Resample

SAMPLE_RATE = 16000  # Whisper's


@cache
def resampler(rate: int) -> Resample:
    """Resamples waveforms to 16 kHz.

    A filter for 44100 Hz takes 0.3 MB, one for 44101 Hz would take 3 GB, and a file
    may name any rate: what has no factor of 10 in common with 16000 is taken for the
    nearest multiple of 10 Hz.

    Arguments
    ---------
    rate : int
        Samples a second, at least 1000.

    Returns
    -------
    torchaudio.transforms.Resample
        Shape (..., samples) -> (..., samples * 16000 / rate).

    Example
    -------
    >>> [resampler(rate).orig_freq for rate in (8000, 44100, 44101)]
    [8000, 44100, 44100]
    """
    near = rate if math.gcd(rate, SAMPLE_RATE) >= 10 else round(rate, -1)
    return Resample(near, SAMPLE_RATE)
