"""The shipped configs, and a small one."""

from pathlib import Path

import pytest
import yaml

CONFIGS = Path(__file__).parents[3] / "workflow" / "config"


@pytest.fixture
def shipped():
    """Reads a shipped config with what all share, as Snakemake merges them."""

    def read(name):
        common, own = (
            yaml.safe_load((CONFIGS / f"{file}.yaml").read_text(encoding="utf-8"))
            for file in ("common", name)
        )
        merged = {key: {**value, **own.get(key, {})} for key, value in common.items()}
        return {**own, **merged}

    return read


@pytest.fixture
def config():
    """Two methods, two seeds, two learning rates."""
    return {
        "name": "example",
        "data_folder": "data",
        "defaults": {"model": "whisper_base", "locale": "hsb", "rank": 32},
        "runs": [{"method": ["lora", "sumra"], "seed": [1, 2]}],
        "sweep": {"locale": "hsb", "seed": 7, "lr": [{"values": [0.001, 0.0001]}]},
    }


@pytest.fixture
def speech():
    """Other languages, for a config."""
    return {
        "shared_speech": {"data_folder": "generic", "locales": ["cs", "pl", "tr"]},
        "warm_starts": {"related": ["cs", "pl"]},
    }
