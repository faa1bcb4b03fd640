"""A bank of made-up languages on a tiny Whisper."""

import pytest
from languages import Languages


@pytest.fixture
def languages(tiny_whisper, tmp_path):
    return Languages(tmp_path, tiny_whisper)


@pytest.fixture
def bank(languages):
    return languages.bank()
