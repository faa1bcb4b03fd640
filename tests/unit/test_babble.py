"""A voice of any length, the same each time, other for another seed."""

import pytest
import torch

from speechbrain_sumra.babble import babble


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("seconds", [0.5, 2.0, 7.3])
def test_it_sounds(seed, seconds):
    voice = babble(seed, seconds)
    assert voice.shape == (int(seconds * 16000),)
    assert torch.isfinite(voice).all() and 0.1 < voice.abs().max() <= 1
    assert torch.equal(voice, babble(seed, seconds))
    assert not torch.equal(voice, babble(seed + 1, seconds))


def test_it_has_the_spectrum_of_a_voice():
    """Most of the power lies below 4 kHz, and not in a single band."""
    power = torch.fft.rfft(babble(0, 4.0)).abs().square()
    bands = power.split(len(power) // 8)
    share = torch.stack([band.sum() for band in bands]) / power.sum()
    assert share[:4].sum() > 0.8 and share.max() < 0.95
