"""Greedy decoding: SpeechBrain's hypotheses, for each utterance as if alone."""

import pytest
import torch
from speechbrain.decoders.seq2seq import S2SWhisperGreedySearcher

from speechbrain_sumra.decoding import GreedySearcher
from speechbrain_sumra.whisper import Whisper


@pytest.fixture
def model(tiny_whisper, tmp_path):
    """A tiny Whisper that ends some of its hypotheses."""
    model = Whisper(tiny_whisper, tmp_path, "new", locale="eo").eval()
    return model


def states_of(model, number, frames=1500):
    torch.manual_seed(4)
    return torch.randn(number, frames, model.config.d_model)


def test_hypotheses_are_speechbrains(model):
    reference = S2SWhisperGreedySearcher(
        model=model, min_decode_ratio=0, max_decode_ratio=20 / 1500
    )
    states = states_of(model, 6)
    expected, *_ = reference(states, torch.ones(6))
    assert GreedySearcher(model, 20)(states) == expected


def test_an_utterance_that_ends_leaves_the_batch(model, monkeypatch):
    """Ends are forced: row i of the batch after i tokens."""
    sizes, next_logits = [], model.next_logits
    remaining = {}

    def forced(states, tokens, cache, lengths):
        logits, cache = next_logits(states, tokens, cache, lengths)
        step = len(sizes)
        sizes.append(len(states))
        for row, state in enumerate(states):
            number = remaining.setdefault(float(state[0, 0]), len(remaining))
            if step > number:
                logits[row] = -1e9
                logits[row, model.eos] = 0.0
        return logits, cache

    states = states_of(model, 4)
    alone = [GreedySearcher(model, 10)(state[None])[0] for state in states]
    monkeypatch.setattr(model, "next_logits", forced)
    together = GreedySearcher(model, 10)(states)
    assert sizes == [4, 4, 3, 2, 1]
    assert together == [tokens[: i + 1] for i, tokens in enumerate(alone)]


def test_padding_changes_nothing(model):
    searcher = GreedySearcher(model, 15)
    states = states_of(model, 3, 40)
    lengths = torch.tensor([40, 25, 33])
    alone = [
        searcher(state[None, :n])[0] for state, n in zip(states, lengths, strict=True)
    ]
    for state, length in zip(states, lengths, strict=True):
        state[length:] = 7.0
    assert searcher(states, lengths) == alone


def test_prompts_may_differ_in_length(model):
    searcher = GreedySearcher(model, 8)
    states = states_of(model, 4, 30)
    start, end = model.prompt[0], model.prompt[-2:]
    prompts = [[start, *middle, *end] for middle in ([], [300], [301, 302], [300])]
    alone = [
        searcher(state[None], prompts=[prompt])[0]
        for state, prompt in zip(states, prompts, strict=True)
    ]
    assert searcher(states, prompts=prompts) == alone
    assert any(alone)
    limit = model.config.max_target_positions
    lengths = [len(tokens) for tokens in GreedySearcher(model, 1000)(states)]
    assert max(lengths) <= limit - len(model.prompt)


def test_longest_hypothesis(model):
    assert all(len(h) <= 3 for h in GreedySearcher(model, 3)(states_of(model, 4)))
    limit = model.config.max_target_positions - len(model.prompt)
    assert len(GreedySearcher(model, 1000)(states_of(model, 1, 5))[0]) <= limit
