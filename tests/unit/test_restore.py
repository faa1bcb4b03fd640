"""A model from its adapter file alone, of every method; and merged."""

import pytest
import torch
from languages import Languages
from speechbrain.nnet.adapters import LoRA
from torch import nn

from speechbrain_sumra import SORSA
from speechbrain_sumra.adalora import AdaLora
from speechbrain_sumra.adapter_file import (
    AdapterFileError,
    read_adapter,
    write_adapter,
)
from speechbrain_sumra.peft_adapters import PeftAdapters
from speechbrain_sumra.restore import load_adapted


class Miss(PeftAdapters):
    """A method of PEFT's that has no file in hparams."""

    def __init__(self):
        super().__init__("MissConfig", r=4)


class Vera(PeftAdapters):
    """With more rows than any layer is wide."""

    def __init__(self):
        super().__init__("VeraConfig", r=80)


METHODS = {
    "sumra": {"strategy": "greedy", "rank": 3},
    "sumra, trained A": {"train_down_proj": True},
    "sorsa": {"method": SORSA, "rank": 4},
    "lora": {"method": PeftAdapters},
    "lora-fa": {"method": PeftAdapters, "frozen": ["*.lora_A.*"], "seed": 7},
    "dora": {"method": PeftAdapters, "use_dora": True},
    "pissa": {"method": PeftAdapters, "init_lora_weights": "pissa"},
    "olora": {"method": PeftAdapters, "init_lora_weights": "olora"},
    "defaults of PEFT's": {"method": PeftAdapters, "bias": "none"},
    "ranks of layers": {"method": PeftAdapters, "rank_pattern": {"fc1": 6}},
    "miss": {"method": Miss},
    "vera, wide": {"method": Vera},
    "adalora": {"method": AdaLora, "init_r": 4, "target_r": 2},
    "further layers": {"unfrozen_layers": ["model.decoder.embed_positions"]},
    "some layers": {"target_layers": ["*.fc1"], "train_norms": False},
    "full fine-tuning": {"method": None, "unfrozen_layers": ["model.decoder"]},
    "sumra, encoder": {"encoder_layers": 1},
    "lora, encoder": {"method": PeftAdapters, "encoder_layers": 1, "context": "clip"},
    "fine-tuning, encoder": {
        "method": None,
        "unfrozen_layers": ["model.decoder"],
        "encoder_layers": 1,
    },
}


@pytest.fixture
def languages(tiny_whisper, tmp_path):
    # Further, and the full fine-tuning of a tiny model is not finite.
    return Languages(tmp_path, tiny_whisper, std=0.05)


def logits(model):
    torch.manual_seed(2)
    wav = torch.randn(2, 16000)
    with torch.no_grad():
        return model(wav, torch.tensor([model.prompt + [400, 500]] * 2))[1]


@pytest.mark.parametrize("method", METHODS)
def test_a_file_is_enough_to_restore_its_model(languages, method):
    model = languages.model(1, **METHODS[method])
    path = languages.save("xx", model, seed=METHODS[method].get("seed", 0))
    restored, metadata = load_adapted(path, **languages.places)
    assert metadata["locale"] == "xx"
    assert torch.equal(logits(restored), logits(model))
    assert not any(p.requires_grad for p in restored.parameters())


@pytest.mark.parametrize("method", METHODS)
def test_merged_it_does_the_same_with_plain_layers(languages, method):
    model = languages.model(1, **METHODS[method])
    before = logits(model)
    model.merge()
    for name in model.replace_layers:
        assert type(model.adapted_model.get_submodule(name)) is nn.Linear
    torch.testing.assert_close(logits(model), before, rtol=1e-4, atol=1e-4)
    with pytest.raises(ValueError, match="merged already"):
        model.merge()
    model.unmerge()
    assert torch.equal(logits(model), before)
    with pytest.raises(ValueError, match="not merged"):
        model.unmerge()


def test_what_cannot_be_merged_says_so_and_stays(languages):
    model = languages.model(1, method=LoRA, rank=4)
    before = logits(model)
    with pytest.raises(ValueError, match="LoRA cannot be merged"):
        model.merge()
    assert torch.equal(logits(model), before)


def test_another_base_is_refused_before_anything_is_computed(languages):
    path = languages.make("xx", 1)
    metadata, tensors = read_adapter(path)
    write_adapter(path, {**metadata, "base_fingerprint": "0" * 64}, tensors, "fp32")
    with pytest.raises(AdapterFileError, match="another base model.*000000000000"):
        load_adapted(path, **languages.places)
    write_adapter(path, {**metadata, "base_model": None}, tensors, "fp32")
    with pytest.raises(AdapterFileError, match="names no base model"):
        load_adapted(path, **languages.places)
    assert load_adapted(path, str(languages.source), **languages.places)


@pytest.mark.parametrize(("storage", "tolerance"), [("fp16", 0.02), ("int8", 0.3)])
def test_smaller_files_give_nearly_the_same_model(languages, storage, tolerance):
    model = languages.model(1)
    exact = languages.save("xx", model).stat().st_size
    before = logits(model)
    path = languages.save("xx", model, storage)
    restored, metadata = load_adapted(path, **languages.places)
    assert metadata["storage"] == storage and path.stat().st_size < exact
    difference = (logits(restored) - before).abs().max()
    assert 0 < difference < tolerance
