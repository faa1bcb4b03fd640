#!/usr/bin/env python3
"""Count what each experiment of hparams/ trains, beside the paper's figures.

> python recipes/CommonVoice/count_parameters.py
> python recipes/CommonVoice/count_parameters.py --methods sumra lora --ranks 2 8 32

Builds every model from its experiment file without its weights (seconds, no
download) and prints a Markdown table of trained parameters in millions, i.e.
of what one language adds, without the language token. Averaged models count
together. In brackets stands what Table 2 of SumRA prints.
"""

import argparse
import logging
from pathlib import Path

import torch
from torch import nn
from transformers import WhisperConfig, WhisperModel

from speechbrain_sumra.adapted import AdaptedWhisper, count_parameters
from speechbrain_sumra.training.hparams import load_hparams

HPARAMS = Path(__file__).resolve().parents[2] / "hparams"
# Width, decoder layers, attention heads, feed-forward width
SIZES = {
    "base": (512, 6, 8, 2048),
    "small": (768, 12, 12, 3072),
    "large_v2": (1280, 32, 20, 5120),
}
# Millions of parameters as printed in the paper's Table 2.
PAPER = {
    ("small", 2): {
        "lora": 0.5,
        "vera": 0.2,
        "lora_fa": 0.4,
        "dora": 0.7,
        "pissa": 0.5,
        "corda": 0.5,
        "sumra": 0.4,
    },
    ("small", 32): {
        "lora": 7.7,
        "vera": 0.2,
        "lora_fa": 3.9,
        "dora": 7.8,
        "pissa": 7.7,
        "corda": 7.7,
        "sumra": 3.9,
    },
    ("large_v2", 2): {
        "lora": 2.4,
        "vera": 0.8,
        "lora_fa": 1.6,
        "dora": 2.9,
        "pissa": 2.4,
        "corda": 2.4,
        "sumra": 1.6,
    },
    ("large_v2", 32): {
        "lora": 34.3,
        "vera": 0.8,
        "lora_fa": 17.6,
        "dora": 34.9,
        "pissa": 34.3,
        "corda": 34.3,
        "sumra": 17.6,
    },
}
METHODS = sorted(path.stem for path in (HPARAMS / "methods").glob("*.yaml"))
SETTINGS = ("adapter_class", "adapter_kwargs", "train_norms", "unfrozen_layers")


class WeightlessWhisper(nn.Module):
    """A Whisper on the meta device, with names as SpeechBrain's has them."""

    def __init__(self, size: str):
        super().__init__()
        width, layers, heads, feed_forward = SIZES[size]
        config = WhisperConfig(
            d_model=width,
            encoder_layers=1,
            decoder_layers=layers,
            encoder_attention_heads=heads,
            decoder_attention_heads=heads,
            encoder_ffn_dim=feed_forward,
            decoder_ffn_dim=feed_forward,
        )
        with torch.device("meta"):
            self.model = WhisperModel(config)


def count_trained(method: str, size: str, rank: int) -> int:
    """Parameters that an experiment trains.

    Arguments
    ---------
    method : str
        A file of hparams/methods/, e.g. "sumra".
    size : str
        A key of ``SIZES``.
    rank : int
        The rank.

    Returns
    -------
    int
        Their number, without the language token.

    Example
    -------
    >>> count_trained("lora", "small", 32)
    7724544
    """
    path = HPARAMS / f"{method}_whisper_{size}.yaml"
    names = [*SETTINGS, "models_to_average"]
    settings = load_hparams(path, f"rank: {rank}", only=names)
    averaged = settings.pop("models_to_average")
    if averaged > 1:
        settings = load_hparams(path, f"rank: {averaged * rank}", only=SETTINGS)
    model = AdaptedWhisper(WeightlessWhisper(size), **settings)
    return count_parameters(model)["trained"]


def table(methods: list[str], sizes: list[str], ranks: list[int]) -> str:
    """A Markdown table of trained parameters in millions.

    Arguments
    ---------
    methods : list of str
        Its rows.
    sizes : list of str
        Models.
    ranks : list of int
        A column for each model and rank.

    Returns
    -------
    str
        The table.
    """
    columns = [(size, rank) for size in sizes for rank in ranks]
    header = [f"{size} r={rank}" for size, rank in columns]
    lines = ["| method | " + " | ".join(header) + " |", "|---|" + "---|" * len(columns)]
    for method in methods:
        cells = []
        for size, rank in columns:
            printed = PAPER.get((size, rank), {}).get(method)
            counted = f"{count_trained(method, size, rank) / 1e6:.2f}"
            cells.append(counted if printed is None else f"{counted} ({printed})")
        lines.append(f"| {method} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    """Print the table that the command line asks for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--methods", nargs="+", default=METHODS, choices=METHODS)
    parser.add_argument("--sizes", nargs="+", default=list(SIZES), choices=list(SIZES))
    parser.add_argument("--ranks", nargs="+", type=int, default=[2, 32])
    arguments = parser.parse_args()
    logging.disable(logging.INFO)
    print(table(arguments.methods, arguments.sizes, arguments.ranks))


if __name__ == "__main__":
    main()
