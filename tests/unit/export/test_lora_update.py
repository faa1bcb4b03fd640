"""Every low-rank method as a LoRA of the base weights."""

import pytest
import torch
from transformers import WhisperModel

from speechbrain_sumra.export.lora_update import low_rank_update

LOW_RANK = [
    "SumRA",
    "SORSA",
    "LoRA",
    "LoRA, rank-stabilized",
    "LoRA-FA",
    "DoRA",
    "PiSSA",
    "PiSSA with DoRA",
    "CorDA",
    "VeRA",
    "AdaLoRA",
]


def updates_of(model):
    for name in model.replace_layers:
        prefix = f"{name}."
        basis = {
            key.removeprefix(prefix): tensor
            for key, tensor in model.basis.tensors.items()
            if key.startswith(prefix)
        }
        yield name, low_rank_update(model.adapted_model.get_submodule(name), basis)


@pytest.mark.parametrize("method", LOW_RANK)
def test_base_weight_and_update_make_the_merged_weight(method, adapted, tiny_base):
    model = adapted(method)
    base = WhisperModel.from_pretrained(tiny_base)
    updates = dict(updates_of(model))
    model.merge()
    assert len(updates) == 20
    for name, update in updates.items():
        original = base.get_submodule(name.removeprefix("model.")).weight
        merged = model.adapted_model.get_submodule(name).weight
        weight = original + update.scaling * update.up @ update.down
        if update.magnitude is not None:
            weight = update.magnitude[:, None] * torch.nn.functional.normalize(weight)
        assert (merged - original).abs().max() > 1e-3
        torch.testing.assert_close(weight, merged, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("method", "rank"), [("SumRA", 4), ("PiSSA", 8), ("SORSA", 8), ("CorDA", 8)]
)
def test_only_what_takes_from_the_base_weight_needs_twice_the_rank(
    method, rank, adapted
):
    for _, update in updates_of(adapted(method)):
        assert len(update.down) == update.up.shape[1] == rank


def test_the_shared_a_is_exported_as_it_is(adapted):
    model = adapted("SumRA")
    for name, update in updates_of(model):
        assert torch.equal(update.down, model.basis.tensors[f"{name}.down_proj"])
        assert update.scaling == 1.5


def test_what_is_not_low_rank_is_refused(adapted):
    with pytest.raises(ValueError, match="(?s)two small matrices.*export_huggingface"):
        dict(updates_of(adapted("MiSS")))
