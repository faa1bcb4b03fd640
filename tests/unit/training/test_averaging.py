"""The average of adapters is the average of their weight updates."""

import pytest
import torch
from torch import nn

from speechbrain_sumra import SumRA
from speechbrain_sumra.adapted import AdaptedWhisper, trained_tensors
from speechbrain_sumra.adapter_file import AdapterFileError, save_adapter
from speechbrain_sumra.training.averaging import load_average
from speechbrain_sumra.whisper import Whisper

RANK, NUMBER = 3, 2


@pytest.fixture
def build(tiny_whisper, tmp_path):
    def adapted(**settings):
        base = Whisper(tiny_whisper, tmp_path / "pretrained", "new", locale="eo")
        return AdaptedWhisper(base, SumRA, settings, tmp_path / "basis")

    return adapted


@pytest.fixture
def members(build, tmp_path):
    """Models on a slice each with random B's and norms, and their files."""
    torch.manual_seed(0)
    models, files = [], []
    for k in range(NUMBER):
        model = build(rank=RANK, alpha=2 * RANK, strategy=f"slice:{k}")
        for parameter in trained_tensors(model).values():
            nn.init.normal_(parameter.data)
        files.append(tmp_path / f"{k}.safetensors")
        save_adapter(files[-1], model)
        models.append(model)
    return models, files


@pytest.fixture
def whole(build):
    return build(rank=NUMBER * RANK, alpha=2 * NUMBER * RANK, strategy="slice:0")


def update_of(model, name):
    adapter = model.adapted_model.get_submodule(name)
    b, a = adapter.adapter_up_proj.weight, adapter.adapter_down_proj.weight
    return adapter.scaling * b @ a


def test_updates_and_norms_are_averaged(members, whole):
    models, files = members
    load_average(files, whole)
    for name in whole.replace_layers:
        mean = sum(update_of(model, name) for model in models) / NUMBER
        torch.testing.assert_close(update_of(whole, name), mean)
    for name, parameter in trained_tensors(whole).items():
        if "adapter" not in name:
            mean = sum(trained_tensors(model)[name] for model in models) / NUMBER
            torch.testing.assert_close(parameter, mean)


def test_other_slices_are_refused(members, whole):
    _, files = members
    with pytest.raises(AdapterFileError, match="number 0 of 2: its strategy is"):
        load_average(files[::-1], whole)
    with pytest.raises(AdapterFileError, match="its rank is 3, expected 6"):
        load_average(files[:1], whole)
    assert not any(p.any() for n, p in trained_tensors(whole).items() if "up_proj" in n)
