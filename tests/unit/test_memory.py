"""Freed memory goes back to the system, and settings of the user stay."""

import os
import subprocess
import sys

import pytest

from speechbrain_sumra.memory import save_memory

GROWTH = """
import sys, torch
from speechbrain_sumra.memory import save_memory
if sys.argv[1] == "saved":
    save_memory()
def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096
torch.ones(1) @ torch.ones(1)
before = resident()
# Each block is freed while a later small one is kept, as in training.
kept = []
for size in range(1, 24):
    block = torch.ones(size, 1 << 18)
    kept.append(torch.ones(1 << 10))
    del block
print(resident() - before)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's malloc")
def test_freed_blocks_are_given_back():
    def grown(how):
        command = [sys.executable, "-c", GROWTH, how]
        return int(subprocess.run(command, capture_output=True, check=True).stdout)

    assert grown("saved") < min(5e6, grown("as it is"))


def test_settings_in_the_environment_are_left_alone(monkeypatch):
    monkeypatch.setenv("LRU_CACHE_CAPACITY", "7")
    save_memory()
    assert os.environ["LRU_CACHE_CAPACITY"] == "7"
