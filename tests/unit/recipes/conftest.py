"""A small Common Voice folder, and a place for its manifests."""

import pytest
from corpus import make_locale


@pytest.fixture
def corpus(tmp_path):
    make_locale(tmp_path / "cv" / "eo")
    return tmp_path / "cv"


@pytest.fixture
def save(tmp_path):
    return tmp_path / "manifests"
