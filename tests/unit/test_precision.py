"""Low precision where it is fast, and the same numbers as autocast's."""

import pytest
import torch
from torch import nn

from speechbrain_sumra import SumRA
from speechbrain_sumra.adapted import AdaptedWhisper
from speechbrain_sumra.peft_adapters import PeftAdapters
from speechbrain_sumra.precision import choose_precision, keep_frozen_linears_in
from speechbrain_sumra.whisper import Whisper


@pytest.mark.parametrize("name", ["fp32", "bf16", "fp16"])
def test_a_named_precision_is_taken(name):
    assert choose_precision(name, "cpu") == name


@pytest.mark.parametrize(
    ("capabilities", "expected"),
    [({}, "fp32"), ({"avx512_bf16": True}, "bf16"), ({"amx_bf16": True}, "bf16")],
)
def test_auto_follows_the_processor(monkeypatch, capabilities, expected):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)
    assert choose_precision("auto", "cpu") == expected


def test_trained_layers_stay_as_they_are():
    layers = nn.Sequential(nn.Linear(2, 2), nn.LayerNorm(2), nn.Linear(2, 2))
    layers[0].requires_grad_(False)
    keep_frozen_linears_in(layers, torch.bfloat16)
    assert [p.dtype for p in layers.parameters()] == [torch.bfloat16] * 2 + [
        torch.float32
    ] * 4


def test_layers_of_which_dora_takes_the_norm_stay_as_they_are():
    for use_dora in (False, True):
        model = nn.Sequential(nn.Linear(4, 4))
        method = PeftAdapters("LoraConfig", r=2, use_dora=use_dora)
        method.insert(model, ["0"], method.make_basis(model, ["0"], {}))
        keep_frozen_linears_in(model, torch.bfloat16)
        kept = model[0].get_base_layer().weight.dtype
        assert kept == (torch.float32 if use_dora else torch.bfloat16)


def test_kept_weights_change_nothing(tiny_whisper, tmp_path):
    """Loss and gradients under autocast are the same to the bit."""

    def step(model, keep):
        if keep:
            keep_frozen_linears_in(model.model.decoder, torch.bfloat16)
        torch.manual_seed(0)
        states = torch.randn(2, 40, model.config.d_model)
        tokens = torch.randint(0, 100, (2, 7))
        positions = torch.ones(2, 7, dtype=torch.bool)
        with torch.autocast("cpu", torch.bfloat16):
            loss = model(
                None,
                tokens,
                encoder_states=states,
                positions=positions,
                targets=tokens.flatten(),
            )[1]
        loss.backward()
        return loss, [p.grad for p in model.parameters() if p.requires_grad]

    results = []
    for keep in (False, True):
        whisper = Whisper(tiny_whisper, tmp_path, language="spanish")
        model = AdaptedWhisper(whisper, SumRA, {"rank": 4}, tmp_path / "basis")
        with torch.no_grad():
            for layer in model.modules():
                if isinstance(layer, SumRA):
                    layer.adapter_up_proj.weight += 0.01
        results.append(step(model, keep))
    (loss, gradients), (kept_loss, kept_gradients) = results
    assert torch.equal(loss, kept_loss)
    assert all(map(torch.equal, gradients, kept_gradients))
