"""The steps that ``growth.py`` measures, each run in a process of its own.

``python growth_steps.py STEP '{"argument": value}' RESULT.json`` runs one of them.
What only one step needs is imported there, so that no other pays for it.
"""

import io
import json
import resource
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tqdm import tqdm

ROOT = Path(__file__).resolve().parents[1]
LOCALE = "xx"
SOUNDS = 256  # distinct recordings; a clip is one of them with a tag of its own
HELD_OUT = 16  # clips each in dev and test
SAMPLE_RATE = 32000  # as most of Common Voice: clips are resampled
# One token each, so that all sentences are equally long: only then is the mean
# of two half batches' losses that of the whole batch.
DIGITS = (
    "zero",
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
)


def make_corpus(folder: str, rows: int) -> dict:
    """Write a Common Voice folder of noisy tones with different sentences.

    Arguments
    ---------
    folder : str
        The locale goes into it.
    rows : int
        Clips in ``train.tsv``.

    Returns
    -------
    dict
        "clips_bytes": what the clips of all splits take on disk.
    """
    import numpy as np

    rng = np.random.default_rng(1986)
    sounds = [_encoded_sound(rng) for _ in range(SOUNDS)]
    corpus = Path(folder) / LOCALE
    clips = corpus / "clips"
    clips.mkdir(parents=True)
    number, clips_bytes = 0, 0
    for split, count in {"train": rows, "dev": HELD_OUT, "test": HELD_OUT}.items():
        with open(corpus / f"{split}.tsv", "w", encoding="utf-8") as tsv:
            tsv.write("path\tsentence\n")
            for _ in tqdm(range(count), desc=f"{split} clips", disable=None):
                name = f"common_voice_{LOCALE}_{number:07d}.mp3"
                sentence = " ".join(DIGITS[int(digit)] for digit in f"{number:07d}")
                tsv.write(f"{name}\t{sentence}\n")
                # Features are kept by content. A trailing ID3v1 tag makes a file
                # another one, and no decoder minds it.
                tag = b"TAG" + f"{number:07d}".encode().ljust(125, b"\0")
                content = sounds[number % SOUNDS] + tag
                clips_bytes += (clips / name).write_bytes(content)
                number += 1
    return {"clips_bytes": clips_bytes}


def _encoded_sound(rng) -> bytes:
    """An mp3 of 1 to 3 s: a tone in noise."""
    import numpy as np
    import soundfile

    seconds = np.arange(rng.integers(SAMPLE_RATE, 3 * SAMPLE_RATE)) / SAMPLE_RATE
    tone = np.sin(2 * np.pi * rng.uniform(100, 2000) * seconds)
    sound = 0.3 * tone + 0.05 * rng.standard_normal(len(seconds))
    file = io.BytesIO()
    soundfile.write(file, sound, SAMPLE_RATE, format="MP3")
    return file.getvalue()


def make_tiny_whisper(folder: str) -> dict:
    """Write a tiny random Whisper with the real tokenizer to ``folder``."""
    import torch
    from transformers import (
        WhisperConfig,
        WhisperFeatureExtractor,
        WhisperModel,
        WhisperTokenizer,
    )

    from speechbrain_sumra.pretrained import fetch_whisper

    torch.manual_seed(0)
    sizes = {
        f"{part}_{name}": value
        for part, layers in (("encoder", 1), ("decoder", 2))
        for name, value in (("layers", layers), ("attention_heads", 2), ("ffn_dim", 32))
    }
    model = WhisperModel(WhisperConfig(d_model=16, init_std=0.2, **sizes))
    model.save_pretrained(folder)
    converted = Path(folder).with_name("whisper-base")
    base = fetch_whisper("openai/whisper-base", converted)
    for part in (WhisperTokenizer, WhisperFeatureExtractor):
        part.from_pretrained(base).save_pretrained(folder)
    shutil.rmtree(converted, ignore_errors=True)  # not there if the hub had it
    return {}


def prepare(folder: str, manifests: str, rows: int) -> dict:
    """Measure ``prepare_common_voice`` on a new corpus of which it keeps all rows.

    Arguments
    ---------
    folder : str
        What ``make_corpus`` wrote.
    manifests : str
        Where the manifests go.
    rows : int
        Rows of ``train.tsv``.

    Returns
    -------
    dict
        "seconds" and "cpu_seconds", "peak_bytes", and "start_bytes", held before
        any data was seen.
    """
    from common_voice_prepare import prepare_common_voice

    with _measured() as figures:
        hours = rows * 3 / 3600
        paths = prepare_common_voice(folder, manifests, LOCALE, train_hours=hours)
    report = json.loads(Path(paths["report"]).read_text(encoding="utf-8"))
    _check("manifest rows", report["splits"]["train"]["clips_kept"], rows)
    return figures


def extract(
    folder: str, manifests: str, whisper: str, features: str, rows: int
) -> dict:
    """Measure a pass over the training set that computes and keeps all states.

    Audio, batches and their order are those of the recipe's first epoch.

    Arguments
    ---------
    folder, manifests : str
        What ``make_corpus`` and ``prepare`` wrote.
    whisper : str
        A Hugging Face folder of a Whisper.
    features : str
        Where encoder states are kept; deleted in the end.
    rows : int
        Rows of ``train.csv``.

    Returns
    -------
    dict
        As ``prepare``, and "feature_bytes", what the states take on disk.
    """
    from speechbrain.dataio.dataloader import make_dataloader

    from speechbrain_sumra.data import EpochPartSampler, load_datasets
    from speechbrain_sumra.features import EncoderStates
    from speechbrain_sumra.training.hparams import load_hparams
    from speechbrain_sumra.whisper import Whisper

    experiment = ROOT / "hparams" / "sumra_whisper_base.yaml"
    settings = load_hparams(experiment, only=["train_loader_kwargs", "seed"])
    # Loading in this process, as the recipe does with a small model: its memory counts.
    loading = {**settings["train_loader_kwargs"], "num_workers": 0}
    model = Whisper(whisper, whisper, "new", LOCALE, encoder_context="clip").eval()
    states = EncoderStates("disk", features)
    with _measured() as figures:
        paths = {"train": f"{manifests}/train.csv"}
        train = load_datasets(paths, folder, model)[0]["train"]
        durations = [item["duration"] for item in train.data.values()]
        states.plan(model, durations)
        sampler = EpochPartSampler(durations, 1, settings["seed"])
        loader = make_dataloader(train, sampler=sampler, **loading)
        for batch in tqdm(loader, desc="encoder states", disable=None):
            states(batch.wav, model)
    sizes = [file.stat().st_size for file in Path(features).rglob("*.safetensors")]
    shutil.rmtree(features)
    _check("files of encoder states", len(sizes), rows)
    return {**figures, "feature_bytes": sum(sizes)}


@contextmanager
def _measured() -> Iterator[dict]:
    """Time the block and its memory; the figures are there when it is left."""
    figures = {"start_bytes": _peak_bytes()}
    start, cpu_start = time.monotonic(), time.process_time()
    yield figures
    figures["seconds"] = time.monotonic() - start
    figures["cpu_seconds"] = time.process_time() - cpu_start
    figures["peak_bytes"] = _peak_bytes()


def _peak_bytes() -> int:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _check(what: str, found: int, expected: int) -> None:
    if found != expected:
        raise RuntimeError(f"expected {expected} {what}, found {found}.")


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT / "recipes" / "CommonVoice"))
    step, arguments, result = sys.argv[1:]
    measured = globals()[step](**json.loads(arguments))
    Path(result).write_text(json.dumps(measured), encoding="utf-8")
