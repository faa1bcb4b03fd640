"""Greedy decoding: SpeechBrain's hypotheses, for each utterance as if alone."""

import pytest
import torch
from speechbrain.decoders.seq2seq import S2SWhisperGreedySearcher

from speechbrain_sumra.whisper import Whisper
from speechbrain_sumra.whisper.decoding import GreedySearcher
from speechbrain_sumra.whisper.repetition import RepeatingText


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

    def forced(states, tokens, cache, lengths, positions):
        logits, cache = next_logits(states, tokens, cache, lengths, positions)
        step = len(sizes)
        sizes.append(len(states))
        for row, state in enumerate(states):
            number = remaining.setdefault(float(state[0, 0]), len(remaining))
            if step > number:
                logits[row] = -1e9
                logits[row, :, model.eos] = 0.0
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


def test_texts_are_the_same_whenever_keys_and_values_are_made(model, monkeypatch):
    """At once, when the text has become long, or never."""
    made = []
    key_projection = model.model.decoder.layers[0].encoder_attn.k_proj
    forward = key_projection.forward

    def counted(frames):
        made.append(len(frames))
        return forward(frames)

    monkeypatch.setattr(key_projection, "forward", counted)
    states, found = states_of(model, 6), {}
    for most in (0, 12, 1000):
        monkeypatch.setattr(
            "speechbrain_sumra.whisper.cross_attention.MOST_QUERIES", most
        )
        found[most] = GreedySearcher(model, 20)(states), made.copy()
        made.clear()
    texts, rows = zip(*found.values(), strict=True)
    assert texts[0] == texts[1] == texts[2]
    assert rows == ([6], [6], [])


def test_guesses_change_nothing_but_the_number_of_steps(model, monkeypatch):
    """A tiny random Whisper soon repeats itself."""
    states, steps = states_of(model, 5, 30), []
    next_logits = model.next_logits

    def counted(*args, **kwargs):
        steps.append(kwargs["positions"])
        return next_logits(*args, **kwargs)

    monkeypatch.setattr(model, "next_logits", counted)
    found = GreedySearcher(model, 60)(states)
    guessed = steps.copy()
    steps.clear()
    monkeypatch.setattr("speechbrain_sumra.whisper.decoding.MOST_GUESSED", 0)
    assert GreedySearcher(model, 60)(states) == found
    assert set(steps) == {1}
    assert max(guessed) > 1
    assert len(guessed) < len(steps)


@pytest.mark.parametrize("wrong_from", [0, 1, 3])
def test_of_a_wrong_guess_nothing_is_kept(model, monkeypatch, wrong_from):
    states = states_of(model, 3, 30)
    monkeypatch.setattr("speechbrain_sumra.whisper.decoding.MOST_GUESSED", 0)
    expected = GreedySearcher(model, 40)(states)

    class Wrong(RepeatingText):
        """Guesses always, right up to some place."""

        def guess(self, number):
            if not self.tokens:
                return []
            said = len(self.tokens)
            own = next(t for t in expected if t[:said] == self.tokens)
            right = own[said : said + min(wrong_from, number)]
            return right + [400] * (number - len(right))

    monkeypatch.setattr("speechbrain_sumra.whisper.decoding.MOST_GUESSED", 6)
    monkeypatch.setattr("speechbrain_sumra.whisper.decoding.RepeatingText", Wrong)
    assert GreedySearcher(model, 40)(states) == expected


def test_a_text_that_repeats_itself_may_be_ended(model):
    """A tiny random Whisper repeats itself; the others of the batch go on."""
    states = states_of(model, 6, 30)
    endless = GreedySearcher(model, 60)(states)
    searcher = GreedySearcher(model, 60, stop_repetition=True)
    found = searcher(states)
    for text, whole in zip(found, endless, strict=True):
        ended = RepeatingText(stop=True)
        ended.extend(whole)
        assert text == ended.tokens
    assert found != endless
    assert found == [searcher(state[None])[0] for state in states]
