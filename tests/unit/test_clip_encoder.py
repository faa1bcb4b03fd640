"""The encoder on a clip's own length: exact but for what padding is taken to be."""

import pytest
import torch

from speechbrain_sumra.clip_encoder import ClipEncoder
from speechbrain_sumra.data import read_audio
from speechbrain_sumra.whisper import Whisper


@pytest.fixture
def whisper(tiny_whisper, tmp_path):
    return Whisper(tiny_whisper, tmp_path, encoder_context="clip").eval()


@torch.no_grad()
def test_if_all_padding_is_probed_states_are_those_of_the_encoder(whisper):
    wav = torch.randn(1, 16000) / 10
    clip = ClipEncoder(
        whisper.model.encoder, whisper.log_mel_spectrogram, 320, probes=200_000
    )
    expected = whisper.forward_encoder(whisper._get_mel(wav))
    # The 30 s end in zeros that the convolution adds, which a probe does not see.
    torch.testing.assert_close(clip(wav, 75), expected[:, :75], rtol=0, atol=5e-3)


@torch.no_grad()
def test_a_clip_is_encoded_alike_in_any_batch(whisper):
    clips = torch.randn(3, 16000) / 10
    together = whisper.encode(clips)
    for row in range(3):
        alone = whisper.encode(clips[row : row + 1])
        torch.testing.assert_close(together[row : row + 1], alone, rtol=1e-4, atol=1e-5)


def test_the_padding_is_computed_once_and_for_all(whisper, tiny_whisper, tmp_path):
    whisper.encode(torch.randn(1, 16000))
    first = whisper._clip_encoder._mean
    whisper.encode(torch.randn(1, 32000))
    assert whisper._clip_encoder._mean is first
    other = Whisper(tiny_whisper, tmp_path, encoder_context="clip").eval()
    other.encode(torch.randn(1, 16000))
    for mine, theirs in zip(first, other._clip_encoder._mean, strict=True):
        assert torch.equal(mine[0], theirs[0]) and torch.equal(mine[1], theirs[1])


@torch.no_grad()
def test_probes_bring_real_clips_near_the_full_context(
    whisper_base, tmp_path, real_speech
):
    whisper = Whisper(whisper_base, tmp_path, encoder_context="clip").eval()
    encoder, log_mel = whisper.model.encoder, whisper.log_mel_spectrogram
    for path in sorted((real_speech / "hsb" / "clips").glob("*.mp3"))[:2]:
        wav = read_audio(str(path))[None]
        states = whisper.count_states(wav.shape[1])
        full = whisper.forward_encoder(whisper._get_mel(wav))[:, :states]
        errors = []
        for probes in (1, 32):
            clip = ClipEncoder(encoder, log_mel, 320, probes)
            errors.append((clip(wav, states) - full).norm() / full.norm())
        assert errors[1] < errors[0] < 0.25 and errors[1] < 0.12
