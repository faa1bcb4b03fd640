"""Writes small Common Voice folders, and reads manifests made of them."""

import csv
import json
from pathlib import Path

import numpy as np
import soundfile

OLD_COLUMNS = ["client_id", "path", "sentence", "up_votes", "locale"]
NEW_COLUMNS = [
    "client_id",
    "path",
    "sentence_id",
    "sentence",
    "sentence_domain",
    "locale",
]
RATE = 8000


def write_clip(clips, name, seconds=0.5):
    clips.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(0).uniform(-0.1, 0.1, round(seconds * RATE))
    soundfile.write(clips / name, noise, RATE)


def write_tsv(path, rows, columns=OLD_COLUMNS):
    """rows: (clip, sentence); every other column holds its own name."""
    lines = ["\t".join(columns)]
    for clip, sentence in rows:
        values = {"path": clip, "sentence": sentence}
        lines.append("\t".join(values.get(name, name) for name in columns))
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def make_locale(folder, train=20, columns=OLD_COLUMNS, dev=2, test=2):
    """A locale folder of half-second clips: train_0.wav, ... ; returns it."""
    for split, count in (("train", train), ("dev", dev), ("test", test)):
        names = [f"{split}_{i}.wav" for i in range(count)]
        for name in names:
            write_clip(folder / "clips", name)
        rows = [(name, f"frazo {name}") for name in names]
        write_tsv(folder / f"{split}.tsv", rows, columns)
    return folder


def seconds(value):
    """Hours, as the function takes them."""
    return value / 3600


def rows_of(path):
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def ids_of(path):
    return [row["ID"] for row in rows_of(path)]


def report_of(paths):
    return json.loads(Path(paths["report"]).read_text(encoding="utf-8"))


def files_in(folder):
    """What is in a folder, but for the lock of who writes there."""
    return {p.name: p.read_bytes() for p in folder.iterdir() if p.name != ".lock"}
