"""A text that repeats itself is foreseen, another is not."""

import random

from speechbrain_sumra.whisper.repetition import RepeatingText


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


def test_an_endless_phrase_is_kept_once():
    begin = [1, 2]
    for phrase in ([7], [7, 8], [7, 7, 8], list(range(3, 9)), list(range(3, 13))):
        text = RepeatingText(stop=True)
        text.extend(begin + phrase * 60)
        assert text.stuck and text.tokens == begin + phrase
    # Also a phrase that says a part of itself twice.
    twice = [3, 4, 5, 6, 3, 4, 5, 7]
    text = RepeatingText(stop=True)
    text.extend(begin + twice * 4)
    assert text.tokens == begin + twice


def test_what_ends_by_itself_is_left_alone():
    for tokens in ([7] * 23, [7, 8] * 11, list(range(8)) * 3, list(range(100))):
        text = RepeatingText(stop=True)
        text.extend([*tokens, 99])
        assert not text.stuck and text.tokens == [*tokens, 99]
    text = RepeatingText()
    text.extend([7] * 100)
    assert not text.stuck and text.tokens == [7] * 100


def test_a_text_is_ended_at_once_and_where_it_is_in_parts():
    random.seed(2)
    for _ in range(50):
        tokens = random.choices(range(2), k=20) * 6 + random.choices(range(2), k=80)
        whole, parts = RepeatingText(stop=True), RepeatingText(stop=True)
        whole.extend(tokens)
        while tokens:
            number = random.randint(1, 8)
            parts.extend(tokens[:number])
            tokens = tokens[number:]
        assert whole.stuck and parts.tokens == whole.tokens
