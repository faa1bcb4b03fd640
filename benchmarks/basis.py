"""The basis of a decoder: ours against PEFT's PiSSA initialisation."""

import statistics
import tempfile
import time
from pathlib import Path

import torch
from peft import LoraConfig, get_peft_model
from torch import nn
from tqdm import tqdm

from speechbrain_sumra import SumRA
from speechbrain_sumra.basis import Basis
from speechbrain_sumra.layer_adapters import LayerAdapters

# Width of each model's decoder; its inner layers are four times as wide.
WIDTHS = {"whisper-base": 512, "whisper-small": 768, "whisper-large-v2": 1280}


class DecoderLayer(nn.Module):
    """The ten linear layers of one decoder layer, with random weights.

    Arguments
    ---------
    width : int
        Of the decoder.
    """

    def __init__(self, width: int):
        super().__init__()
        for number in range(8):
            self.add_module(f"square{number}", nn.Linear(width, width, bias=False))
        self.fc1 = nn.Linear(width, 4 * width, bias=False)
        self.fc2 = nn.Linear(4 * width, width, bias=False)


def measure_bases(rank: int = 32, repeats: int = 3) -> dict:
    """Time of a decoder layer's basis, ours and PEFT's, in turn.

    PEFT's time is that of ``init_lora_weights="pissa"`` less that of its plain
    initialisation. "stored" is reading a basis of the whole model that is there.

    Arguments
    ---------
    rank : int
        Of the adapters.
    repeats : int
        Measurements of each, of which the median counts.

    Returns
    -------
    dict
        By model: "ours" and "pissa" (seconds), "ratio" (theirs over ours).
    """
    found = {}
    for name, width in tqdm(WIDTHS.items(), desc="Basis"):
        torch.manual_seed(0)
        times = {"ours": [], "pissa": [], "plain": []}
        for _ in range(repeats):
            times["ours"].append(_ours(DecoderLayer(width), rank))
            times["pissa"].append(_peft(DecoderLayer(width), rank, "pissa"))
            times["plain"].append(_peft(DecoderLayer(width), rank, True))
        median = {key: statistics.median(values) for key, values in times.items()}
        pissa = median["pissa"] - median["plain"]
        found[name] = {
            "ours": round(median["ours"], 4),
            "pissa": round(pissa, 4),
            "ratio": round(pissa / median["ours"], 3),
        }
    return found


def _ours(layer: nn.Module, rank: int) -> float:
    names = [name for name, _ in layer.named_children()]
    method = LayerAdapters(SumRA, rank=rank)
    start = time.perf_counter()
    method.make_basis(layer, names, {})
    return time.perf_counter() - start


def _peft(layer: nn.Module, rank: int, initialisation) -> float:
    names = [name for name, _ in layer.named_children()]
    config = LoraConfig(
        r=rank, target_modules=names, init_lora_weights=initialisation, lora_alpha=rank
    )
    start = time.perf_counter()
    get_peft_model(layer, config)
    return time.perf_counter() - start


def measure_stored(rank: int = 32) -> float:
    """Seconds to read and insert a stored basis of whisper-large-v2's shape.

    Arguments
    ---------
    rank : int
        Of the adapters.
    """
    width, layers = WIDTHS["whisper-large-v2"], 32
    model = nn.ModuleList([DecoderLayer(width) for _ in range(layers)])
    names = [
        name for name, part in model.named_modules() if isinstance(part, nn.Linear)
    ]
    tensors = {
        f"{name}.down_proj": torch.zeros(rank, model.get_submodule(name).in_features)
        for name in names
    }
    method = LayerAdapters(SumRA, rank=rank)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "basis.safetensors"
        Basis(tensors, {}).save(path)
        start = time.perf_counter()
        method.insert(model, names, Basis.load(path))
        return round(time.perf_counter() - start, 3)
