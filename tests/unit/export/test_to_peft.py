"""The adapter as PEFT loads it, on the untouched base model."""

import json

import pytest
from safetensors.torch import load_file
from transformers import WhisperForConditionalGeneration

from speechbrain_sumra.export import export_peft

peft = pytest.importorskip("peft", reason="needs [export]")


@pytest.fixture
def base(tiny_base):
    return WhisperForConditionalGeneration.from_pretrained(tiny_base).eval()


@pytest.mark.parametrize(
    "method",
    [
        "SumRA",
        "SORSA",
        "LoRA of SpeechBrain",
        "LoRA",
        "LoRA, rank-stabilized",
        "LoRA-FA",
        "DoRA",
        "PiSSA",
        "PiSSA with DoRA",
        "CorDA",
        "VeRA",
        "AdaLoRA",
    ],
)
def test_logits_on_the_base_are_the_adapted_models(
    method, adapted, same_logits, base, tmp_path
):
    model = adapted(method)
    assert export_peft(model, tmp_path / "peft") == tmp_path / "peft"
    loaded = peft.PeftModel.from_pretrained(base, tmp_path / "peft").eval()
    same_logits(model, loaded, "la")


def test_adapters_of_the_encoder_are_there_too(adapted, same_logits, base, tmp_path):
    model = adapted(encoder_layers=1)
    export_peft(model, tmp_path / "peft")
    tensors = load_file(tmp_path / "peft" / "adapter_model.safetensors")
    assert sum(".encoder." in name and "lora_B" in name for name in tensors) == 6
    loaded = peft.PeftModel.from_pretrained(base, tmp_path / "peft").eval()
    same_logits(model, loaded, "la")


def test_the_files_hold_a_b_norms_and_one_row_and_nothing_else(adapted, base, tmp_path):
    model = adapted()
    export_peft(model, tmp_path / "peft", "cs")
    config = json.loads((tmp_path / "peft" / "adapter_config.json").read_text())
    token = model.tokenizer.convert_tokens_to_ids("<|cs|>")
    assert config["trainable_token_indices"] == {"model.decoder.embed_tokens": [token]}
    assert config["base_model_name_or_path"] == model.source
    assert config["revision"] is None
    assert (config["r"], config["lora_alpha"]) == (4, 6)
    norms = [name for name, _ in base.named_modules() if name.endswith("layer_norm")]
    decoders = [name for name in norms if ".decoder." in name]
    assert sorted(config["modules_to_save"]) == sorted(decoders) != sorted(norms)
    tensors = load_file(tmp_path / "peft" / "adapter_model.safetensors")
    kinds = [name.removeprefix("base_model.model.").split(".") for name in tensors]
    assert sum("lora_A" in kind for kind in kinds) == 20
    assert sum("lora_B" in kind for kind in kinds) == 20
    assert sum("token_adapter" in kind for kind in kinds) == 1
    assert len(tensors) == 20 + 20 + 1 + 2 * len(decoders)


def test_a_pinned_base_model_is_named_as_peft_wants_it(adapted, tmp_path):
    model = adapted()
    model.adapted_model.source = "openai/whisper-base@e37978b"
    export_peft(model, tmp_path / "peft")
    config = json.loads((tmp_path / "peft" / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == "openai/whisper-base"
    assert config["revision"] == "e37978b"


def test_norms_can_be_refused_and_need_not_be_there(
    adapted, same_logits, base, tmp_path
):
    with pytest.raises(ValueError, match="train_norms: False"):
        export_peft(adapted(), tmp_path / "peft", norms="refuse")
    assert not (tmp_path / "peft").exists()
    model = adapted(train_norms=False)
    export_peft(model, tmp_path / "peft", norms="refuse")
    config = json.loads((tmp_path / "peft" / "adapter_config.json").read_text())
    assert config["modules_to_save"] is None
    loaded = peft.PeftModel.from_pretrained(base, tmp_path / "peft").eval()
    same_logits(model, loaded, "la")
    with pytest.raises(ValueError, match="Unknown norms 'merge'"):
        export_peft(model, tmp_path / "other", norms="merge")


def test_an_existing_language_needs_no_row(adapted, same_logits, base, tmp_path):
    model = adapted(base={"language": "polish"})
    export_peft(model, tmp_path / "peft")
    config = json.loads((tmp_path / "peft" / "adapter_config.json").read_text())
    assert config["trainable_token_indices"] is None
    loaded = peft.PeftModel.from_pretrained(base, tmp_path / "peft").eval()
    same_logits(model, loaded, "pl")


@pytest.mark.parametrize("method", ["MiSS", "fine-tuning"])
def test_what_is_no_lora_is_refused_with_another_way(method, adapted, tmp_path):
    with pytest.raises(ValueError, match="export_huggingface"):
        export_peft(adapted(method), tmp_path / "peft")
    assert not (tmp_path / "peft").exists()


def test_further_trained_layers_are_refused(adapted, tmp_path):
    model = adapted(unfrozen_layers=["model.encoder.conv1"])
    with pytest.raises(ValueError, match="model.encoder.conv1"):
        export_peft(model, tmp_path / "peft")


def test_without_a_language_token_it_is_refused(adapted, tmp_path):
    with pytest.raises(ValueError, match="without a language token"):
        export_peft(adapted(base={"language": "none"}), tmp_path / "peft")


def test_a_merged_model_is_refused(adapted, tmp_path):
    model = adapted()
    model.merge()
    with pytest.raises(ValueError, match="unmerge"):
        export_peft(model, tmp_path / "peft")


def test_an_adapter_that_computes_something_else_is_not_written(
    adapted, tmp_path, monkeypatch
):
    """As a method would that PEFT's LoRA knows under an option we do not pass on."""
    from speechbrain_sumra.export import to_peft

    real = to_peft.low_rank_update

    def halved(layer, basis):
        update = real(layer, basis)
        return to_peft.LoraUpdate(update.down, update.up / 2, update.scaling)

    monkeypatch.setattr(to_peft, "low_rank_update", halved)
    with pytest.raises(ValueError, match="does not compute what SumRA does"):
        export_peft(adapted(), tmp_path / "peft")
    assert not (tmp_path / "peft").exists()
