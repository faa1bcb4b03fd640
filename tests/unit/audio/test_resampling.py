"""Any sample rate, with filters that fit into memory."""

import math

import pytest
import torch

from speechbrain_sumra.audio.resampling import SAMPLE_RATE, resampler


@pytest.mark.parametrize("rate", [1000, 8000, 11127, 44056, 44101, 191_999, 384_000])
def test_filters_are_small_and_pitch_stays(rate):
    resample = resampler(rate)
    assert resample.orig_freq == pytest.approx(rate, rel=1e-3)
    assert math.gcd(resample.orig_freq, SAMPLE_RATE) >= 8
    second = torch.sin(2 * math.pi * 100 * torch.arange(rate) / rate)
    assert len(resample(second)) == pytest.approx(SAMPLE_RATE, rel=1e-3)


def test_whispers_own_rate_is_left_alone():
    wav = torch.randn(100)
    assert torch.equal(resampler(SAMPLE_RATE)(wav), wav)
