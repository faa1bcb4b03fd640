"""Any sample rate, with filters that fit into memory."""

import math

import pytest
import torch

from speechbrain_sumra.audio import resampling
from speechbrain_sumra.audio.resampling import KEPT, SAMPLE_RATE, resampler

MEGABYTES = 16  # of a filter, at most
ODD = [11127, 23_990, 44056, 44101, 47_990, 48_010, 95_990, 191_999, 383_990]


@pytest.mark.parametrize("rate", [1000, 8000, *ODD, 384_000])
def test_filters_are_small_and_pitch_stays(rate):
    resample = resampler(rate)
    assert resample.orig_freq == pytest.approx(rate, rel=6e-4)
    assert resample.kernel.nbytes < MEGABYTES * 1e6
    second = torch.sin(2 * math.pi * 100 * torch.arange(rate) / rate)
    assert len(resample(second)) == pytest.approx(SAMPLE_RATE, rel=1e-3)


@pytest.mark.parametrize("rate", [8000, 11025, 22050, 37800, 44100, 48000, 88200])
def test_usual_rates_are_taken_as_they_are(rate):
    assert resampler(rate).orig_freq == rate


def test_few_filters_are_kept():
    for rate in range(11_000, 11_400, 10):
        resampler(rate)
    assert resampler(44_101) is resampler(44_100) is resampler(44_099)
    assert resampling._resampler.cache_info().currsize == KEPT


def test_whispers_own_rate_is_left_alone():
    wav = torch.randn(100)
    assert torch.equal(resampler(SAMPLE_RATE)(wav), wav)
