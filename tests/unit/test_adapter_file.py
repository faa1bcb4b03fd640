"""The file of a language: exact outputs back, and nothing on the wrong model."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import WhisperModel

from speechbrain_sumra import SumRA
from speechbrain_sumra.adapted import AdaptedWhisper, trained_tensors
from speechbrain_sumra.adapter_file import (
    FORMAT,
    AdapterFileError,
    _checksum,
    load_adapter,
    read_adapter,
    read_metadata,
    save_adapter,
    write_adapter,
)
from speechbrain_sumra.basis import Basis
from speechbrain_sumra.whisper import Whisper


@pytest.fixture
def adapted(tiny_whisper, tmp_path):
    def build(
        source=tiny_whisper, language="none", context="full", encoder=0, **settings
    ):
        base = Whisper(
            source,
            tmp_path / "pretrained",
            language,
            locale="eo",
            encoder_context=context,
            adapted_encoder_layers=encoder,
        )
        whole = {"train_norms", "target_layers"} & settings.keys()
        whole = {name: settings.pop(name) for name in whole}
        kwargs = {"rank": 4, **settings}
        return AdaptedWhisper(base, SumRA, kwargs, tmp_path / "basis", **whole).eval()

    return build


def perturb(model):
    torch.manual_seed(1)
    for parameter in trained_tensors(model).values():
        nn.init.normal_(parameter.data, std=0.2)


def logits(model):
    torch.manual_seed(2)
    wav = torch.randn(1, 16000)
    with torch.no_grad():
        return model(wav, torch.tensor([model.prompt + [400, 500]]))[1]


@pytest.mark.parametrize("language", ["none", "new", "polish"])
@pytest.mark.parametrize("train_down_proj", [False, True])
def test_outputs_are_restored_exactly(adapted, tmp_path, language, train_down_proj):
    settings = {"language": language, "train_down_proj": train_down_proj}
    trained = adapted(**settings)
    perturb(trained)
    path = tmp_path / "eo.safetensors"
    save_adapter(path, trained, locale="eo", test_wer=12.5)

    fresh = adapted(**settings)
    assert not torch.equal(logits(fresh), logits(trained))
    metadata = load_adapter(path, fresh)
    assert torch.equal(logits(fresh), logits(trained))
    assert metadata["locale"] == "eo" and metadata["test_wer"] == 12.5
    assert metadata["rank"] == metadata["alpha"] == 4
    assert len(metadata["layers"]) == 20


def test_a_is_not_in_the_file(adapted, tmp_path):
    save_adapter(tmp_path / "eo.safetensors", adapted())
    assert not any("down" in name for name in load_file(tmp_path / "eo.safetensors"))


@pytest.fixture
def saved(adapted, tmp_path):
    path = tmp_path / "eo.safetensors"
    save_adapter(path, adapted(), locale="eo")
    return path


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"rank": 2}, "its rank is 4, the model's is 2"),
        ({"alpha": 8}, "its alpha is 4, the model's is 8"),
        ({"strategy": "greedy"}, "its strategy is interleave, the model's is greedy"),
        ({"language": "new"}, "its language is none, the model's is new"),
        ({"context": "clip"}, "its encoder context is full, the model's is clip"),
        ({"encoder": 1}, "its layers is"),
        ({"train_norms": False}, "train_norms"),
        ({"target_layers": ["*.fc1"]}, "its layers is"),
    ],
)
def test_other_settings_are_refused_by_name(adapted, saved, settings, message):
    model = adapted(**settings)
    before = {name: p.clone() for name, p in trained_tensors(model).items()}
    with pytest.raises(AdapterFileError, match=message):
        load_adapter(saved, model)
    for name, parameter in trained_tensors(model).items():
        assert torch.equal(parameter, before[name])


def test_another_base_is_refused(adapted, saved, tiny_whisper, tmp_path):
    other = tmp_path / "other"
    model = WhisperModel.from_pretrained(tiny_whisper)
    model.decoder.layers[0].fc1.weight.data[0, 0] += 1e-3
    model.save_pretrained(other)
    for file in tiny_whisper.iterdir():
        if not (other / file.name).exists():
            (other / file.name).write_bytes(file.read_bytes())
    with pytest.raises(AdapterFileError, match="its base fingerprint is"):
        load_adapter(saved, adapted(source=other))


def test_another_basis_is_refused(adapted, saved):
    model = adapted()
    flipped = {name: -rows for name, rows in model.basis.tensors.items()}
    model.basis = Basis(flipped, model.basis.description)
    with pytest.raises(AdapterFileError, match="its basis fingerprint is"):
        load_adapter(saved, model)


def change_file(path, change):
    tensors = load_file(path)
    change(tensors)
    text = json.dumps(read_metadata(path))
    metadata = {"format": FORMAT, "adapter": text, "crc32": _checksum(text, tensors)}
    save_file(tensors, path, metadata=metadata)


def test_files_of_before_there_were_encoder_layers_have_none(saved):
    metadata, tensors = read_adapter(saved)
    assert metadata.pop("adapted_encoder_layers") == 0
    write_adapter(saved, metadata, tensors, "fp32")
    assert read_metadata(saved)["adapted_encoder_layers"] == 0


NORM = "model.decoder.layer_norm.weight"


def test_a_changed_bit_is_found(saved):
    content = bytearray(saved.read_bytes())
    content[-5] ^= 1
    saved.write_bytes(content)
    with pytest.raises(AdapterFileError, match="is damaged: its checksum is wrong"):
        read_adapter(saved)


@pytest.mark.parametrize(
    "value, message",
    [
        (torch.ones(3), r"shape \(3,\), the model needs \(16,\)"),
        (torch.full((16,), float("nan")), "not finite"),
        (torch.ones(16, dtype=torch.int32), "not finite"),
        (None, "only in the model"),
    ],
)
def test_wrong_tensors_are_refused(adapted, saved, value, message):
    if value is None:
        change_file(saved, lambda tensors: tensors.pop(NORM))
    else:
        change_file(saved, lambda tensors: tensors.update({NORM: value}))
    with pytest.raises(AdapterFileError, match=message):
        load_adapter(saved, adapted())


def test_damaged_or_foreign_files_are_refused(adapted, saved, tmp_path):
    whole = saved.read_bytes()
    for content in (b"", b"text", whole[:100], whole[:-10]):
        saved.write_bytes(content)
        with pytest.raises(AdapterFileError, match="cannot be read"):
            load_adapter(saved, adapted())
    save_file({"x": torch.ones(1)}, saved)
    with pytest.raises(AdapterFileError, match="not an adapter file"):
        read_metadata(saved)
    with pytest.raises(AdapterFileError, match="cannot be read"):
        read_metadata(tmp_path / "missing.safetensors")
