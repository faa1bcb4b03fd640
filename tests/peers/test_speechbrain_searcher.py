"""Greedy decoding against SpeechBrain's searcher, with the real whisper-base."""

import pytest
import torch
from speechbrain.decoders.seq2seq import S2SWhisperGreedySearcher

from speechbrain_sumra.data import read_audio
from speechbrain_sumra.whisper import Whisper
from speechbrain_sumra.whisper.decoding import GreedySearcher

pytestmark = pytest.mark.real
MAX_TOKENS = 40


@pytest.fixture(scope="module")
def clips(synthetic_corpus):
    # Of too few, all may be repeated up to the limit.
    paths = sorted((synthetic_corpus / "eo" / "clips").iterdir())[:8]
    return [read_audio(str(path)) for path in paths]


def states_of(model, clips):
    with torch.no_grad():
        states = [model.encode(clip[None])[0] for clip in clips]
    lengths = torch.tensor([len(state) for state in states])
    padded = torch.nn.utils.rnn.pad_sequence(states, batch_first=True)
    return padded, lengths


@pytest.fixture(scope="module")
def states(whisper_base, tmp_path_factory, clips):
    """With the full context; they do not depend on the language."""
    model = Whisper(whisper_base, tmp_path_factory.mktemp("whisper")).eval()
    return states_of(model, clips)[0]


@pytest.mark.parametrize("language", ["spanish", "none"])
def test_the_same_hypotheses_with_the_full_context(
    whisper_base, tmp_path, states, language
):
    model = Whisper(whisper_base, tmp_path, language).eval()
    reference = S2SWhisperGreedySearcher(
        model=model, min_decode_ratio=0, max_decode_ratio=MAX_TOKENS / 1500
    )
    expected, *_ = reference(states, torch.ones(len(states)))
    found = GreedySearcher(model, MAX_TOKENS)(states)
    assert found == expected
    assert any(len(hypothesis) < MAX_TOKENS for hypothesis in found)


def test_each_utterance_gets_what_it_would_alone(whisper_base, tmp_path, clips):
    model = Whisper(whisper_base, tmp_path, "spanish", encoder_context="clip").eval()
    searcher = GreedySearcher(model, MAX_TOKENS)
    together = searcher(*states_of(model, clips))
    assert together == [searcher(*states_of(model, [clip]))[0] for clip in clips]
