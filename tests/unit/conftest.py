"""A tiny Whisper as a CTranslate2 folder, and what is made of it."""

import shutil

import pytest
from ctranslate2_writer import ct2_variables, tiny_whisper, write_ct2_folder

from speechbrain_sumra.pretrained import fetch_whisper


@pytest.fixture(scope="session")
def tiny():
    return tiny_whisper()


@pytest.fixture(scope="session")
def ct2_folder(tiny, tmp_path_factory):
    """A CTranslate2 folder; tests that change it work on a copy."""
    folder = tmp_path_factory.mktemp("ct2") / "tiny"
    return write_ct2_folder(folder, ct2_variables(tiny))


@pytest.fixture(scope="session")
def converted(ct2_folder, tmp_path_factory):
    return fetch_whisper(str(ct2_folder), tmp_path_factory.mktemp("cache"))


@pytest.fixture
def own_folder(ct2_folder, tmp_path):
    return shutil.copytree(ct2_folder, tmp_path / "tiny")
