"""Runs the recipe as a user does, and reads what it leaves."""

import json
import os
import subprocess
import sys
from pathlib import Path

from speechbrain.utils import logger

ROOT = Path(__file__).resolve().parents[2]
TRAIN = ROOT / "recipes" / "CommonVoice" / "train.py"
# SpeechBrain has pip list what is installed, a second of each run; runs in processes
# of their own have it.
NO_ENV_LOG = (logger, "get_environment_description", str)


def command(method="sumra", **settings):
    """Arguments of train.py for these settings."""
    values = (f"--{name}={value}" for name, value in settings.items())
    return [f"hparams/{method}_whisper_base.yaml", *values]


def short_run(whisper, corpus, folder):
    """Settings of a run of seconds, on a tiny Whisper."""
    return {
        "whisper_hub": whisper,
        "data_folder": corpus,
        "locale": "eo",
        "runs_folder": folder / "runs",
        "output_folder": folder / "run",
        "rank": 4,
        "lr": 0.01,
        "validations_per_epoch": 3,
        "max_tokens": 15,
        "num_workers": 0,
    }


def run_here(monkeypatch, method="sumra", **settings):
    """Run the recipe in this process, from the top folder."""
    import train

    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(*NO_ENV_LOG)
    arguments = command(method, **settings)
    return train.main([*arguments, "--noprogressbar", "--device=cpu"])


def run_command(arguments, launcher=(sys.executable,), cwd=ROOT, python_path=""):
    """Run the recipe in a process of its own."""
    return subprocess.run(
        [*launcher, str(TRAIN), *arguments, "--noprogressbar", "--device=cpu"],
        cwd=cwd,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(python_path)},
        capture_output=True,
        text=True,
        timeout=600,
    )


def read_json(path):
    """A JSON file."""
    return json.loads(Path(path).read_text(encoding="utf-8"))


def read_hypotheses(path):
    """References and hypotheses of a run, in the same order."""
    records = [json.loads(line) for line in Path(path).read_text("utf-8").splitlines()]
    return (
        [record["reference"] for record in records],
        [record["hypothesis"] for record in records],
    )
