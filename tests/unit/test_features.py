"""Kept encoder states equal computed ones, whatever the batch or the limit."""

import torch

from speechbrain_sumra.features import EncoderStates
from speechbrain_sumra.whisper import Whisper


class Counting:
    def __init__(self, whisper):
        self.whisper, self.calls = whisper, 0

    def __call__(self, wav):
        self.calls += 1
        with torch.no_grad():
            return self.whisper.encode(wav)


def test_kept_states_equal_computed_ones(tiny_whisper, tmp_path):
    encode = Counting(Whisper(tiny_whisper, tmp_path))
    wavs = torch.randn(3, 16000)
    lengths = torch.tensor([1.0, 0.5, 0.75])
    keys = ["a", "b", "c"]

    keeping, forgetting = EncoderStates(1.0), EncoderStates(0.0)
    first = keeping(keys, wavs, lengths, encode)
    again = keeping(keys, wavs, lengths, encode)
    assert encode.calls == 3
    recomputed = forgetting(keys, wavs, lengths, encode)
    assert encode.calls == 6 and forgetting.nbytes == 0
    assert torch.equal(first, again) and torch.equal(first, recomputed)

    alone = EncoderStates(1.0)(["b"], wavs[1:2, :8000], torch.ones(1), encode)
    assert torch.equal(alone[0], first[1])


def test_the_limit_is_kept():
    states = EncoderStates(max_gigabytes=20e-9)  # room for two of 8 bytes
    calls = []

    def encode(wav):
        calls.append(1)
        return wav.reshape(1, 2, 2)

    wavs = torch.rand(4, 4)
    for _ in range(2):
        states(list("abcd"), wavs, torch.ones(4), encode)
    assert states.nbytes == 16
    assert len(calls) == 4 + 2
