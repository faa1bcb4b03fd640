"""One module around each layer: settings, a basis for all, regularizers."""

import pytest
import torch
from speechbrain.nnet.adapters import LoRA
from torch import nn

from speechbrain_sumra import SORSA, SumRA
from speechbrain_sumra.basis import Basis
from speechbrain_sumra.layer_adapters import LayerAdapters

LAYERS = ["0", "2"]
CLASSES = [SumRA, SORSA, LoRA]


def build():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(8, 12), nn.ReLU(), nn.Linear(12, 6))


@pytest.fixture
def model():
    return build()


def inserted(adapter_class, model, **settings):
    method = LayerAdapters(adapter_class, **{"rank": 2, **settings})
    method.insert(model, LAYERS, method.make_basis(model, LAYERS, {}))
    return method


SUMRA_BASIS = {"rank": 2, "strategy": "interleave", "row_norm": "raw"}


@pytest.mark.parametrize(
    "adapter_class, settings, basis_settings",
    [
        (SumRA, {**SUMRA_BASIS, "alpha": 2, "train_down_proj": False}, SUMRA_BASIS),
        (SORSA, {"rank": 2, "gamma": 4e-4}, {"rank": 2}),
        (LoRA, {"rank": 2, "alpha": 1.0}, {}),
    ],
)
def test_settings_include_defaults_and_the_basis_has_its_own(
    adapter_class, settings, basis_settings
):
    method = LayerAdapters(adapter_class, rank=2)
    assert method.name == adapter_class.__name__
    assert method.settings == settings
    assert method.basis_settings == basis_settings


@pytest.mark.parametrize("alpha, expected", [(None, 4), (8, 8), (0.5, 0.5)])
def test_alpha_is_the_rank_if_none_is_given(alpha, expected):
    assert LayerAdapters(SumRA, rank=4, alpha=alpha).settings["alpha"] == expected


def test_settings_reach_the_adapters(model):
    inserted(SumRA, model, rank=3, alpha=6, strategy="greedy", row_norm="unit")
    expected = SumRA(build()[2], rank=3, alpha=6, strategy="greedy", row_norm="unit")
    assert model[2].scaling == expected.scaling == 2
    a = expected.adapter_down_proj.weight
    assert torch.equal(model[2].adapter_down_proj.weight, a)


@pytest.mark.parametrize("adapter_class", CLASSES)
def test_making_a_basis_leaves_the_model_as_it_is(model, adapter_class):
    method = LayerAdapters(adapter_class, rank=2)
    method.make_basis(model, LAYERS, {})
    original = build()
    assert repr(model) == repr(original)
    for name, value in original.state_dict().items():
        assert torch.equal(model.state_dict()[name], value)
    assert all(parameter.requires_grad for parameter in model.parameters())


@pytest.mark.parametrize(
    "adapter_class, shapes, figure",
    [
        (SumRA, {"down_proj": (2, 12)}, "row_load_over_bound"),
        (
            SORSA,
            {"left": (6, 2), "values": (2,), "right": (2, 12)},
            "principal_energy",
        ),
    ],
)
def test_basis_has_tensors_and_figures_of_each_layer(
    model, adapter_class, shapes, figure
):
    method = LayerAdapters(adapter_class, rank=2)
    basis = method.make_basis(model, LAYERS, {"method": method.name})
    assert basis.description == {"method": method.name}
    assert len(basis.tensors) == 2 * len(shapes)
    for name, shape in shapes.items():
        assert tuple(basis.tensors[f"2.{name}"].shape) == shape
    assert all(tensor.dtype == torch.float32 for tensor in basis.tensors.values())
    assert {layer: set(of_it) for layer, of_it in basis.figures.items()} == {
        name: {figure} for name in LAYERS
    }


@pytest.mark.parametrize("adapter_class", [SumRA, SORSA])
def test_outputs_on_a_stored_basis_are_bit_identical(tmp_path, adapter_class):
    method = LayerAdapters(adapter_class, rank=2)
    basis = method.make_basis(build(), LAYERS, {})
    basis.save(tmp_path / "basis.safetensors")
    x = torch.randn(5, 8)
    outputs = []
    for of_run in (basis, Basis.load(tmp_path / "basis.safetensors")):
        model = build()
        method.insert(model, LAYERS, of_run)
        for name, parameter in model.named_parameters():
            if "up_proj" in name:
                parameter.data += 1
        outputs.append(model(x))
    assert torch.equal(*outputs)


def test_adapters_stand_on_the_basis_that_is_given(model):
    method = LayerAdapters(SumRA, rank=2)
    basis = method.make_basis(model, LAYERS, {})
    flipped = Basis({name: -rows for name, rows in basis.tensors.items()}, {})
    method.insert(model, LAYERS, flipped)
    for name in LAYERS:
        rows = model.get_submodule(name).adapter_down_proj.weight
        assert torch.equal(rows, -basis.tensors[f"{name}.down_proj"])


@pytest.mark.parametrize("adapter_class", CLASSES)
def test_output_is_unchanged_at_step_0(model, adapter_class):
    x = torch.randn(5, 8)
    before = model(x)
    inserted(adapter_class, model)
    assert all(isinstance(model.get_submodule(n), adapter_class) for n in LAYERS)
    torch.testing.assert_close(model(x), before, rtol=0, atol=1e-5)


@pytest.mark.parametrize("adapter_class", [SumRA, SORSA])
def test_unusable_rank_names_the_layer(model, adapter_class):
    method = LayerAdapters(adapter_class, rank=7)
    with pytest.raises(ValueError, match="^Layer 2: .*from 1 to 6 .*got 7"):
        method.make_basis(model, LAYERS, {})


def test_a_class_that_prepares_nothing_has_an_empty_basis(model):
    method = LayerAdapters(LoRA, rank=2)
    basis = method.make_basis(model, LAYERS, {"method": "LoRA"})
    assert not basis.tensors and basis.description == {"method": "LoRA"}
    method.insert(model, LAYERS, basis)
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    assert trained == {
        f"{layer}.adapter_{part}_proj.weight"
        for layer in LAYERS
        for part in ("down", "up")
    }


def test_regularizer_is_the_sum_over_layers(model):
    method = inserted(SORSA, model, gamma=0.1)
    for name in LAYERS:
        nn.init.normal_(model.get_submodule(name).adapter_up_proj.weight)
    terms = [model.get_submodule(name).regularizer() for name in LAYERS]
    total = method.regularizer(model)
    assert total.item() == pytest.approx(sum(terms).item())
    assert all(term > 0.01 for term in terms)
    total.backward()
    for name in LAYERS:
        assert model.get_submodule(name).adapter_up_proj.weight.grad.abs().sum() > 0


@pytest.mark.parametrize("adapter_class", [SumRA, LoRA])
def test_no_regularizer_without_one_in_the_class(model, adapter_class):
    assert inserted(adapter_class, model).regularizer(model) is None
