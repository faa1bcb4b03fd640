"""The language that an exported model answers to."""

import pytest

from speechbrain_sumra.export.language import (
    DEFAULT_CODE,
    exported_code,
    new_locale,
    required_code,
)
from speechbrain_sumra.whisper import Whisper


@pytest.fixture
def whisper(tiny_base, tmp_path):
    return lambda *language: Whisper(tiny_base, tmp_path, *language)


def test_a_new_language_takes_the_place_of_latin(whisper):
    model = whisper("new", "hsb")
    assert new_locale(model) == "hsb"
    assert exported_code(model) == DEFAULT_CODE == "la"


@pytest.mark.parametrize(
    ("locale", "code"), [("sv-SE", "sv"), ("sv", "sv"), ("zh-TW", "zh")]
)
def test_a_new_token_of_a_known_language_takes_its_own_place(whisper, locale, code):
    model = whisper("new", locale)
    assert new_locale(model) == locale
    assert exported_code(model) == code


@pytest.mark.parametrize("name", ["cs", "CS", "czech", "Czech"])
def test_another_place_is_named_by_code_or_name(whisper, name):
    assert exported_code(whisper("new", "hsb"), name) == "cs"


@pytest.mark.parametrize("name", ["hsb", "<|cs|>", "", "transcribe", "yue"])
def test_a_place_that_this_whisper_does_not_have_is_refused(whisper, name):
    with pytest.raises(ValueError, match="Unknown language .* cs, .* zh"):
        exported_code(whisper("new", "hsb"), name)


def test_an_existing_language_is_its_own_code_and_no_other(whisper):
    model = whisper("polish")
    assert exported_code(model) == exported_code(model, "Polish") == "pl"
    assert required_code(model, "pl", "all") == "pl"
    assert new_locale(model) is None
    with pytest.raises(ValueError, match="'pl' and answers to no other.*'cs'"):
        exported_code(model, "cs")


def test_a_language_of_whisper_is_its_own_code(whisper):
    assert exported_code(whisper("own", "sv-SE")) == "sv"
    with pytest.raises(ValueError, match="answers to one language"):
        exported_code(whisper("own", "cs+pl"))


def test_without_a_language_token_there_is_no_code(whisper):
    model = whisper("none")
    assert exported_code(model) is None
    with pytest.raises(ValueError, match="cannot answer to 'cs'"):
        exported_code(model, "cs")
    with pytest.raises(ValueError, match="they always put one into the prompt"):
        required_code(model, None, "they")
