"""Kernels kept are few, unless the user says how many."""

import os

import pytest

from speechbrain_sumra.training.memory import KERNELS, limit_kernel_cache

NAMES = ("LRU_CACHE_CAPACITY", "ONEDNN_PRIMITIVE_CACHE_CAPACITY")


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)
    yield
    for name in NAMES:
        os.environ.pop(name, None)


def test_both_caches_are_limited():
    limit_kernel_cache()
    assert [os.environ[name] for name in NAMES] == [KERNELS, KERNELS]


def test_settings_in_the_environment_are_left_alone(monkeypatch):
    monkeypatch.setenv("LRU_CACHE_CAPACITY", "7")
    limit_kernel_cache()
    assert os.environ["LRU_CACHE_CAPACITY"] == "7"
