"""Which layers are adapted, what is trained, and how much that is."""

from functools import partial

import pytest
import torch
from speechbrain.nnet.adapters import LoRA, is_layer_adaptable
from transformers import WhisperModel

from speechbrain_sumra import SumRA
from speechbrain_sumra.adapted import (
    DECODER_LINEARS,
    AdaptedWhisper,
    trained_tensors,
)
from speechbrain_sumra.whisper import Whisper


def test_ten_linear_layers_of_each_decoder_layer(tiny_whisper):
    model = WhisperModel.from_pretrained(tiny_whisper)
    names = {
        name
        for name, module in model.named_modules()
        if is_layer_adaptable(f"model.{name}", module, False, False, DECODER_LINEARS)
    }
    assert len(names) == 10 * model.config.decoder_layers
    assert all(name.startswith("decoder.layers.") for name in names)


@pytest.fixture
def adapted(tiny_whisper, tmp_path):
    def build(**settings):
        base = Whisper(
            tiny_whisper, tmp_path / "pretrained", **settings.pop("base", {})
        )
        places = {"target_layers", "unfrozen_layers", "linears"}
        whole = {"train_norms", *places} & settings.keys()
        whole = {name: settings.pop(name) for name in whole}
        adapter = settings.pop("adapter_class", SumRA)
        kwargs = {"rank": 4, **settings} if adapter is SumRA else settings
        return AdaptedWhisper(base, adapter, kwargs, tmp_path / "basis", **whole)

    return build


def test_trained_are_b_and_the_decoder_norms(adapted):
    names = set(trained_tensors(adapted()))
    norms = {name for name in names if "layer_norm" in name}
    assert all(name.startswith("model.decoder.") for name in names)
    assert len(norms) == 2 * (2 * 3 + 1)
    assert all(n.endswith("adapter_up_proj.weight") for n in names - norms)
    assert len(names - norms) == 20


def test_the_encoders_last_layers_may_be_adapted_too(adapted):
    model = adapted(base={"adapted_encoder_layers": 1})
    in_encoder = {
        name.removeprefix("model.encoder.")
        for name in trained_tensors(model)
        if name.startswith("model.encoder.")
    }
    linears = ["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"]
    linears += ["self_attn.out_proj", "fc1", "fc2"]
    norms = ["layers.0.self_attn_layer_norm", "layers.0.final_layer_norm", "layer_norm"]
    assert in_encoder == {
        *(f"layers.0.{name}.adapter_up_proj.weight" for name in linears),
        *(f"{name}.{part}" for name in norms for part in ("weight", "bias")),
    }
    decoder = {n for n in trained_tensors(model) if not n.startswith("model.encoder.")}
    assert decoder == trained_tensors(adapted()).keys()


@pytest.mark.parametrize(("linears", "number"), [("attention", 20), ("mlp", 6)])
def test_some_of_the_linears_may_be_adapted_alone(adapted, linears, number):
    whole = adapted(base={"adapted_encoder_layers": 1})
    part = adapted(base={"adapted_encoder_layers": 1}, linears=linears)
    kind = "_attn." if linears == "attention" else ".fc"
    expected = {name for name in whole.replace_layers if kind in name}
    assert set(part.replace_layers) == expected and len(expected) == number
    left_out = trained_tensors(whole).keys() - trained_tensors(part).keys()
    assert all("adapter_up_proj" in name and kind not in name for name in left_out)


def test_an_unknown_kind_of_linears_is_refused(adapted):
    with pytest.raises(ValueError, match="'fc1'; expected one of all, attention, mlp"):
        adapted(linears="fc1")


def test_adapters_of_the_encoder_learn_from_its_states(adapted):
    model = adapted(base={"adapted_encoder_layers": 1})
    states = model.encode(torch.randn(1, 16000))
    assert not states.requires_grad
    tokens = torch.tensor([model.prompt + [400, 500]])
    before = model(None, tokens, states)[1]
    before.square().sum().backward()
    trained = trained_tensors(model)
    assert all(parameter.grad.any() for parameter in trained.values())
    with torch.no_grad():
        for name, parameter in trained.items():
            if name.startswith("model.encoder."):
                parameter.add_(0.1)
    assert not torch.allclose(model(None, tokens, states)[1], before)


def test_norms_a_and_language_token_are_choices(adapted):
    assert not any("norm" in n for n in trained_tensors(adapted(train_norms=False)))
    with_a = trained_tensors(adapted(train_down_proj=True))
    assert sum("adapter_down_proj" in name for name in with_a) == 20
    new = trained_tensors(adapted(base={"language": "new", "locale": "eo"}))
    assert new["model.decoder.embed_tokens.new_token.weight"].shape == (1, 16)


def test_adapters_stand_on_the_stored_basis(adapted):
    model = adapted()
    assert len(model.basis.tensors) == len(model.replace_layers) == 20
    for name in model.replace_layers:
        adapter = model.adapted_model.get_submodule(name)
        rows = model.basis.tensors[f"{name}.down_proj"]
        assert torch.equal(adapter.adapter_down_proj.weight, rows)
    assert model.basis_file.exists()
    assert model.basis.description["base_fingerprint"] == model.base_fingerprint
    assert 1 <= model.basis.largest_figures()["row_load_over_bound"] < 2


def test_logits_are_unchanged_at_step_0(adapted, tiny_whisper, tmp_path):
    base = Whisper(tiny_whisper, tmp_path / "pretrained")
    tokens = torch.tensor([base.prompt + [400, 500]])
    wav = torch.randn(1, 16000)
    with torch.no_grad():
        before = base(wav, tokens)[1]
        after = adapted()(wav, tokens)[1]
    assert torch.equal(before, after)


def test_no_matching_layer_is_an_error(adapted):
    with pytest.raises(ValueError, match="No layer of the model matches"):
        adapted(target_layers=["encoder.nothing"])


def test_rank_above_the_smallest_layer_names_the_layer(adapted):
    with pytest.raises(ValueError, match="model.decoder.layers.0.*from 1 to 16"):
        adapted(rank=17)


def test_adapters_of_speechbrain_work_too(adapted):
    model = adapted(adapter_class=LoRA, rank=2)
    assert model.basis_file is None and not model.basis.tensors
    trained = trained_tensors(model)
    assert sum("adapter_down_proj" in name for name in trained) == 20


def test_settings_may_come_with_the_class_as_in_yaml(adapted):
    model = adapted(adapter_class=partial(SumRA, rank=2), strategy="greedy")
    assert model.adapters.settings["rank"] == 2
    assert model.adapters.settings["strategy"] == "greedy"
    assert model.adapters.settings["alpha"] == 2


def test_without_adapters(adapted):
    new = {"language": "new", "locale": "eo"}
    assert not trained_tensors(adapted(adapter_class=None, base=new))
    whole = adapted(adapter_class=None, unfrozen_layers=["model.decoder"], base=new)
    names = set(trained_tensors(whole))
    decoder = {f"model.decoder.{n}" for n, _ in whole.model.decoder.named_parameters()}
    assert names == decoder
    assert whole.regularizer() is None and not whole.awaits_data

    new["adapted_encoder_layers"] = 1
    more = adapted(adapter_class=None, unfrozen_layers=["model.decoder"], base=new)
    encoder = set(trained_tensors(more)) - decoder
    assert encoder == {
        f"model.encoder.{name}"
        for name, _ in more.model.encoder.named_parameters()
        if name.startswith(("layers.", "layer_norm."))
    }
