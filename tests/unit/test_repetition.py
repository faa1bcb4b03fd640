"""A text that repeats itself is foreseen, another is not."""

import random

from speechbrain_sumra.repetition import RepeatingText


def said(tokens):
    text = RepeatingText()
    text.extend(tokens)
    return text


def test_a_text_without_repetition_has_no_guess():
    assert said([]).guess(4) == []
    assert said(range(50)).guess(4) == []
    # Two tokens are not enough.
    assert said([1, 2, 3, 4, 1, 2]).guess(4) == []


def test_a_period_goes_on():
    for period in ([7], [7, 8], [7, 7, 8], list(range(10))):
        tokens = (period * 60)[: 3 * len(period) + 4]
        expected = (period * 60)[len(tokens) : len(tokens) + 25]
        assert said([1, 2, *tokens]).guess(25) == expected


def test_the_latest_continuation_counts():
    assert said([1, 2, 3, 4, 1, 2, 3, 5, 1, 2, 3]).guess(1) == [5]


def test_in_parts_or_at_once():
    random.seed(1)
    tokens = random.choices(range(3), k=200)
    text = RepeatingText()
    for i, token in enumerate(tokens):
        text.extend([token])
        assert text.guess(6) == said(tokens[: i + 1]).guess(6)
    assert text.tokens == tokens
