"""What every contender of the training benchmark is given, and hands back."""

import argparse
import csv
import json
from dataclasses import asdict, dataclass
from pathlib import Path

from speechbrain_sumra.training.history import History
from speechbrain_sumra.training.summary import peak_memory_bytes, versions


@dataclass
class Job:
    """One adaptation: train, validate so many times, test.

    Attributes
    ----------
    whisper : str
        Hugging Face folder of the base model.
    manifests : str
        Folder with train.csv, dev.csv and test.csv, as the recipe writes them.
    data_folder : str
        Replaces ``$data_root`` in them.
    output : str
        Folder for all that the job writes; ``result.json`` last.
    epochs : int
        Passes over the training clips.
    validations : int
        Number of validations, evenly spread over all epochs.
    batch_size, test_batch_size : int
        Clips a training step; clips decoded together.
    rank : int
        Of LoRA; alpha is the same.
    lr : float
        Learning rate at the start.
    seed : int
        Of initialisation and order.
    language : str
        Whisper's language in the prompt.
    max_tokens : int
        Longest hypothesis.
    """

    whisper: str
    manifests: str
    data_folder: str
    output: str
    epochs: int = 2
    validations: int = 16
    batch_size: int = 4
    test_batch_size: int = 16
    rank: int = 32
    lr: float = 1e-3
    seed: int = 1986
    language: str = "polish"
    max_tokens: int = 150


def read_job(description: str) -> Job:
    """The job that the command line describes: ``--<attribute> <value>``."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    for field in Job.__dataclass_fields__.values():
        given = field.default if isinstance(field.default, field.type) else None
        parser.add_argument(
            f"--{field.name}", type=field.type, default=given, required=given is None
        )
    return Job(**vars(parser.parse_args()))


def read_manifest(job: Job, split: str) -> list[dict]:
    """Clips of a split: "id", "wav" (path), "text" and "duration" (seconds)."""
    path = Path(job.manifests) / f"{split}.csv"
    with open(path, encoding="utf-8", newline="") as file:
        return [
            {
                "id": row["ID"],
                "wav": row["wav"].replace("$data_root", job.data_folder),
                "text": row["wrd"],
                "duration": float(row["duration"]),
            }
            for row in csv.DictReader(file)
        ]


def write_result(
    job: Job,
    history: History,
    trained_parameters: int,
    test_wer: float,
    valid_wers: list[float],
) -> None:
    """Write ``result.json``.

    Arguments
    ---------
    job : Job
        What was asked for.
    history : History
        Its ``seconds`` are those of the phases "load", "train", "validate" and
        "test".
    trained_parameters : int
        Parameters with a gradient that is used.
    test_wer : float
        Percent, after Whisper's multilingual normaliser.
    valid_wers : list of float
        The same of each validation.
    """
    result = {
        "seconds": {name: round(value, 2) for name, value in history.seconds.items()},
        "peak_memory_bytes": peak_memory_bytes(),
        "trained_parameters": trained_parameters,
        "test_wer": round(test_wer, 4),
        "valid_wers": [round(wer, 4) for wer in valid_wers],
        "versions": versions(),
        "job": asdict(job),
    }
    path = Path(job.output) / "result.json"
    path.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
