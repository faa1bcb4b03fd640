"""PEFT's methods: what is frozen or subtracted is in the basis, and comes back."""

import sys

import pytest
import torch
from torch import nn

from speechbrain_sumra.adapted import AdaptedWhisper, trained_tensors
from speechbrain_sumra.adapter_file import (
    AdapterFileError,
    load_adapter,
    read_adapter,
    save_adapter,
    write_adapter,
)
from speechbrain_sumra.basis import Basis
from speechbrain_sumra.peft_adapters import MissingExtraError, PeftAdapters
from speechbrain_sumra.whisper import Whisper

LAYERS = ["0", "2"]
FROZEN_A = ["*.lora_A.*"]
# Of LoRA-GA, where a layer's input needs no gradient.
pytestmark = pytest.mark.filterwarnings("ignore:Full backward hook is firing")


@pytest.fixture(autouse=True)
def peft():
    return pytest.importorskip("peft", reason="needs [baselines]")


def build():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(8, 12), nn.ReLU(), nn.Linear(12, 6))


@pytest.fixture
def model():
    return build()


@pytest.fixture
def x():
    return torch.randn(5, 8, generator=torch.Generator().manual_seed(1))


def lora(**settings):
    return PeftAdapters("LoraConfig", **{"r": 2, **settings})


def calibration(model, seed=0):
    """A run over data, with gradients where they are enabled."""

    def run():
        generator = torch.Generator().manual_seed(seed)
        for _ in range(3):
            output = model(torch.randn(20, 8, generator=generator))
            if torch.is_grad_enabled():
                output.square().mean().backward()

    return run


def basis_of(method, model=None, seed=0):
    model = build() if model is None else model
    run = calibration(model, seed) if method.needs_data else None
    return method.make_basis(model, LAYERS, {}, run)


def inserted(method, basis=None, model=None):
    model = build() if model is None else model
    method.insert(model, LAYERS, basis_of(method) if basis is None else basis)
    return model


def trained_names(model):
    return [name for name, p in model.named_parameters() if p.requires_grad]


def is_same(first, second):
    first, second = first.state_dict(), second.state_dict()
    assert first.keys() == second.keys()
    return all(torch.equal(value, second[name]) for name, value in first.items())


def parts(layer):
    return layer.lora_A["default"].weight, layer.lora_B["default"].weight


# What is refused.


def test_without_peft_the_extra_to_install_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(MissingExtraError, match=r"'speechbrain-sumra\[baselines\]'"):
        lora()


@pytest.mark.parametrize("config", ["NoConfig", "get_peft_model", "LoraModel"])
def test_known_configurations_are_listed_for_an_unknown_one(config):
    message = f"no configuration '{config}'; it has .*LoraConfig, .*VeraConfig"
    with pytest.raises(ValueError, match=message):
        PeftAdapters(config)


@pytest.mark.parametrize(
    "config, settings, message",
    [
        ("LoraConfig", {"nonsense": 1}, "'nonsense'"),
        ("LoraConfig", {"init_lora_weights": "pissa", "lora_bias": True}, "lora_bias"),
        ("LoraConfig", {"init_lora_weights": "loftq"}, "loftq_config"),
        ("AdaLoraConfig", {"use_dora": True}, "does not support DoRA"),
        ("PromptTuningConfig", {}, "'target_modules'"),
    ],
)
def test_arguments_that_peft_refuses_are_one_error(config, settings, message):
    refused = f"PEFT refuses these settings of {config}: .*{message}"
    with pytest.raises(ValueError, match=refused):
        PeftAdapters(config, **settings)


@pytest.mark.parametrize("row_norm", ["unit", 2.0])
@pytest.mark.parametrize("frozen", [[], ["*.lora_B.*"]])
def test_row_norm_is_refused_if_a_is_trained(row_norm, frozen):
    with pytest.raises(ValueError, match=r"add '\*.lora_A.\*' to frozen"):
        lora(frozen=frozen, row_norm=row_norm)


@pytest.mark.parametrize("row_norm", ["long", 0, -1.0, True])
def test_unusable_row_norm(row_norm):
    with pytest.raises(ValueError, match="'raw', 'unit' or a positive number"):
        basis_of(lora(frozen=FROZEN_A, row_norm=row_norm))


def test_eva_is_refused():
    with pytest.raises(ValueError, match="EVA .* not supported.* corda, lora_ga"):
        lora(init_lora_weights="eva")


@pytest.mark.parametrize(
    "initialisation, rank",
    [
        ("pissa", 7),
        ("pissa_niter_2", 7),
        ("olora", 7),
        ("mica", 7),
        ("corda", 7),
        ("lora_ga", 4),
    ],
)
def test_rank_above_the_components_names_the_layer(model, initialisation, rank):
    method = lora(init_lora_weights=initialisation, r=rank)
    message = rf"^Layer 2: .*at rank {rank} .*6 x 12 weight has 6"
    with pytest.raises(ValueError, match=message):
        basis_of(method, model)
    assert is_same(model, build())


def test_random_lora_has_any_rank(x):
    model = inserted(lora(r=9))
    assert [tuple(p.shape) for p in parts(model[2])] == [(9, 12), (6, 9)]
    assert torch.equal(model(x), build()(x))


@pytest.mark.parametrize(
    "config, settings, message",
    [
        ("LoraConfig", {"r": 0}, "positive integer"),
        ("LoraConfig", {"init_lora_weights": "nonsense"}, "nonsense"),
        ("MissConfig", {"r": 5, "init_weights": "bat"}, "divisible"),
        ("MissConfig", {"r": 13}, r"less than or equal to in_features \(8\)"),
    ],
)
def test_layers_that_do_not_fit_name_the_configuration(config, settings, message):
    method = PeftAdapters(config, **{"r": 2, **settings})
    with pytest.raises(ValueError, match=f"cannot put {config} into .*{message}"):
        basis_of(method)


@pytest.mark.parametrize("config", ["LoraConfig", "VeraConfig"])
@pytest.mark.parametrize("layers", [["1"], ["0", "1"]])
def test_other_kinds_of_layer_are_refused(config, layers):
    model = nn.Sequential(nn.Linear(8, 8), nn.LayerNorm(8))
    method = PeftAdapters(config, r=2)
    with pytest.raises(ValueError, match=f"PEFT cannot put {config} into"):
        method.make_basis(model, layers, {})


# Seeds and settings.


@pytest.mark.parametrize("frozen", [[], FROZEN_A])
def test_a_depends_on_the_seed_alone(frozen):
    drawn = []
    for seed, of_others in ((0, 1), (0, 2), (1, 1)):
        method, model = lora(frozen=frozen, seed=seed), build()
        torch.manual_seed(of_others)
        a, b = parts(inserted(method, model=model)[0])
        assert not b.any()
        drawn.append(a)
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.isclose(drawn[0], drawn[2]).any()


@pytest.mark.parametrize(
    "settings", [{}, {"frozen": FROZEN_A}, {"init_lora_weights": "lora_ga"}]
)
def test_global_random_state_is_untouched(model, settings):
    method = lora(seed=5, **settings)
    before = torch.get_rng_state()
    basis = basis_of(method, model)
    assert torch.equal(torch.get_rng_state(), before)
    method.insert(model, LAYERS, basis)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(
    "initialisation, has_seed",
    [(True, True), ("pissa_niter_2", True), ("pissa", False), ("olora", False)],
)
def test_basis_depends_on_the_seed_where_it_is_random(initialisation, has_seed):
    method = lora(init_lora_weights=initialisation, seed=3)
    assert (method.basis_settings.get("seed") == 3) == has_seed
    assert ("made_in" in method.basis_settings) != has_seed
    assert "seed" not in method.settings
    assert method.settings["init_lora_weights"] == initialisation


@pytest.mark.parametrize("config", ["LoraConfig", "MissConfig"])
def test_basis_is_empty_where_all_is_trained(config):
    assert not basis_of(PeftAdapters(config, r=2)).tensors


# LoRA-FA and VeRA: what is frozen is in the basis.


@pytest.mark.parametrize("row_norm, length", [("unit", 1.0), (2.5, 2.5)])
def test_frozen_a_has_rows_of_one_length(row_norm, length, x):
    raw = basis_of(lora(frozen=FROZEN_A))
    method = lora(frozen=FROZEN_A, row_norm=row_norm)
    basis = basis_of(method)
    for name, rows in basis.tensors.items():
        torch.testing.assert_close(rows.norm(dim=1), torch.full((2,), length))
        along = rows * raw.tensors[name].norm(dim=1, keepdim=True) / length
        torch.testing.assert_close(along, raw.tensors[name])
    assert torch.equal(inserted(method, basis)(x), build()(x))


@pytest.mark.parametrize("row_norm", ["raw", "unit"])
def test_frozen_a_comes_back_from_the_basis(row_norm):
    settings = {"frozen": FROZEN_A, "row_norm": row_norm}
    basis = basis_of(lora(seed=0, **settings))
    assert set(basis.tensors) == {f"{n}.lora_A.default.weight" for n in LAYERS}
    model = inserted(lora(seed=1, **settings), basis)
    assert trained_names(model) == [f"{n}.lora_B.default.weight" for n in LAYERS]
    for name, rows in basis.tensors.items():
        assert torch.equal(model.get_parameter(name), rows)


PROJECTIONS = ["0.vera_A.default", "0.vera_B.default"]


def test_projections_are_in_the_basis_once_and_shared_by_all_layers():
    method = PeftAdapters("VeraConfig", r=2)
    basis = basis_of(method)
    assert list(basis.tensors) == PROJECTIONS
    model = inserted(method, basis)
    for name in ("vera_A", "vera_B"):
        first, second = (getattr(model[i], name)["default"] for i in (0, 2))
        assert first is second
    assert trained_names(model) == [
        f"{layer}.vera_lambda_{part}.default" for layer in LAYERS for part in "bd"
    ]


def test_projections_of_another_seed_come_back_from_the_basis(x):
    made = PeftAdapters("VeraConfig", r=2, projection_prng_key=1)
    other = PeftAdapters("VeraConfig", r=2, projection_prng_key=2)
    basis = basis_of(made)
    assert not torch.equal(
        basis_of(other).tensors[PROJECTIONS[0]], basis.tensors[PROJECTIONS[0]]
    )
    models = [inserted(made, basis), inserted(other, basis)]
    for model in models:
        for layer in (model[0], model[2]):
            layer.vera_lambda_b["default"].data.fill_(1.0)
    assert torch.equal(models[0](x), models[1](x))
    assert not torch.allclose(models[0](x), build()(x))


# PiSSA, OLoRA, CorDA, LoRA-GA: the first adapter is taken out of the weight.

STARTS = ["pissa", "pissa_niter_2", "olora", "corda", "lora_ga"]


@pytest.mark.parametrize("initialisation", STARTS)
@pytest.mark.parametrize("settings", [{}, {"lora_alpha": 6, "use_rslora": True}])
def test_residual_and_adapter_are_the_original(initialisation, settings, x):
    model = inserted(lora(init_lora_weights=initialisation, **settings))
    torch.testing.assert_close(model(x), build()(x), rtol=0, atol=1e-5)
    assert trained_names(model) == [
        f"{layer}.lora_{part}.default.weight" for layer in LAYERS for part in "AB"
    ]
    for layer, name in ((model[0], "0.weight"), (model[2], "2.weight")):
        original = build().get_parameter(name)
        assert (layer.get_base_layer().weight - original).abs().max() > 1e-3
        assert all(part.abs().sum() > 0 for part in parts(layer))


@pytest.mark.parametrize("initialisation", STARTS)
def test_a_stored_basis_gives_bit_identical_weights(initialisation, tmp_path, x):
    method = lora(init_lora_weights=initialisation)
    basis_of(method).save(tmp_path / "basis.safetensors")
    models = [
        inserted(
            lora(init_lora_weights=initialisation, seed=seed),
            Basis.load(tmp_path / "basis.safetensors"),
        )
        for seed in (0, 1)
    ]
    assert is_same(*models)
    assert torch.equal(models[0](x), models[1](x))


@pytest.mark.parametrize("initialisation", ["pissa", "olora"])
@pytest.mark.parametrize("rank", [2, 6])
def test_weights_are_those_that_peft_itself_makes(peft, initialisation, rank):
    settings = {"r": rank, "lora_alpha": 5, "init_lora_weights": initialisation}
    expected = build()
    config = peft.LoraConfig(target_modules=LAYERS, **settings)
    peft.inject_adapter_in_model(config, expected)
    expected = expected.state_dict()
    for name, value in inserted(lora(**settings)).state_dict().items():
        # A pair of singular vectors may have the other sign; their product has not.
        magnitude = torch.abs if ".lora_" in name else torch.clone
        torch.testing.assert_close(
            magnitude(value), magnitude(expected[name]), rtol=0, atol=1e-5
        )


@pytest.mark.parametrize("initialisation", ["pissa", "olora"])
def test_threads_do_not_change_the_fingerprint(initialisation):
    def fingerprint(threads):
        torch.set_num_threads(threads)
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(512, 512))
        method = lora(r=32, init_lora_weights=initialisation)
        return method.make_basis(model, ["0"], {}).fingerprint

    before = torch.get_num_threads()
    try:
        assert fingerprint(1) == fingerprint(2)
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize(
    "initialisation, needs_data",
    [(True, False), ("pissa", False), ("corda", True), ("lora_ga", True)],
)
def test_needs_data(initialisation, needs_data):
    assert lora(init_lora_weights=initialisation).needs_data == needs_data


@pytest.mark.parametrize("initialisation", ["corda", "lora_ga"])
def test_other_data_makes_another_basis(initialisation):
    method = lora(init_lora_weights=initialisation)
    same, again, other = (basis_of(method, seed=seed) for seed in (0, 0, 1))
    name = "0.initial.lora_A"
    assert torch.equal(same.tensors[name], again.tensors[name])
    assert not torch.allclose(same.tensors[name], other.tensors[name])


@pytest.mark.parametrize(
    "settings",
    [
        {"init_lora_weights": "corda", "corda_config": {"corda_method": "kpm"}},
        {"init_lora_weights": "lora_ga", "lora_ga_config": {"direction": "ArBr"}},
    ],
)
def test_options_of_an_initialisation_reach_it(settings):
    default = lora(init_lora_weights=settings["init_lora_weights"])
    name = "0.initial.lora_A"
    start = basis_of(lora(**settings)).tensors[name]
    assert not torch.allclose(start, basis_of(default).tensors[name])


def attributes(model):
    return [set(vars(module)) for module in model.modules()]


@pytest.mark.parametrize("initialisation", [True, *STARTS])
def test_making_a_basis_leaves_the_model_as_it_is(initialisation):
    model, original = build().eval(), build().eval()
    model[0].requires_grad_(False)
    basis_of(lora(init_lora_weights=initialisation), model)
    assert is_same(model, original) and repr(model) == repr(original)
    assert attributes(model) == attributes(original)
    assert not any(module.training for module in model.modules())
    assert not any(m._forward_hooks or m._backward_hooks for m in model.modules())
    assert trained_names(model) == ["2.weight", "2.bias"]
    assert all(parameter.grad is None for parameter in model.parameters())


# Any configuration of PEFT.


@pytest.mark.parametrize(
    "config, settings, names",
    [
        ("LoraConfig", {"r": 2}, ["lora_A", "lora_B"]),
        ("LoraConfig", {"r": 2, "use_dora": True}, ["lora_A", "lora_B", "lora_mag"]),
        ("LoraConfig", {"r": 2, "init_lora_weights": "olora"}, ["lora_A", "lora_B"]),
        ("LoraConfig", {"r": 2, "init_lora_weights": "mica"}, ["lora_A"]),
        ("MissConfig", {"r": 2}, ["miss_block"]),
        ("MissConfig", {"r": 2, "init_weights": "bat"}, ["miss_block"]),
        ("OFTConfig", {"r": 2, "oft_block_size": 0}, ["oft_R"]),
        ("VeraConfig", {"r": 2}, ["vera_lambda_b", "vera_lambda_d"]),
    ],
)
def test_any_configuration(config, settings, names, x):
    model = inserted(PeftAdapters(config, **settings))
    trained = trained_names(model)
    expected = [f"{layer}.{name}" for layer in LAYERS for name in names]
    assert len(trained) == len(expected)
    assert all(n.startswith(e) for n, e in zip(trained, expected, strict=True))
    output = model(x)
    torch.testing.assert_close(output, build()(x), rtol=0, atol=1e-5)

    frozen = {n: p.clone() for n, p in model.named_parameters() if n not in trained}
    trainable = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.SGD(trainable, lr=0.1)
    output.square().mean().backward()
    optimizer.step()
    assert not torch.allclose(model(x), output)
    for name, value in frozen.items():
        assert torch.equal(model.get_parameter(name), value)


@pytest.mark.parametrize("initialisation", [True, "pissa", "corda", "lora_ga"])
def test_on_the_meta_device_nothing_is_computed(initialisation):
    model = build().to("meta")
    method = lora(init_lora_weights=initialisation)
    method.insert(model, LAYERS, Basis({}, {}))
    assert all(parameter.is_meta for parameter in model.parameters())
    assert trained_names(model) == trained_names(inserted(lora()))


# In Whisper, and in the file of a language.


@pytest.mark.parametrize(
    "settings, num_trained",
    [
        ({"config": "LoraConfig", "r": 2, "frozen": FROZEN_A}, 20),
        ({"config": "LoraConfig", "r": 2, "init_lora_weights": "pissa"}, 40),
        ({"config": "LoraConfig", "r": 2, "init_lora_weights": "corda"}, 40),
        ({"config": "VeraConfig", "r": 2}, 40),
    ],
)
def test_a_file_restores_whisper_exactly(tiny_whisper, tmp_path, settings, num_trained):
    def adapted():
        base = Whisper(tiny_whisper, tmp_path / "pretrained")
        return AdaptedWhisper(base, PeftAdapters, settings, tmp_path / "basis").eval()

    def logits(model):
        wav = torch.randn(1, 16000, generator=torch.Generator().manual_seed(2))
        with torch.no_grad():
            return model(wav, torch.tensor([model.prompt + [400, 500]]))[1]

    model, fresh = adapted(), adapted()
    assert model.awaits_data == (settings.get("init_lora_weights") == "corda")
    if model.awaits_data:
        before = logits(model)
        model.calibrate(tmp_path / "initial.safetensors", lambda: logits(model))
        torch.testing.assert_close(logits(model), before, rtol=0, atol=1e-4)
    names = set(trained_tensors(model))
    norms = {name for name in names if "layer_norm" in name}
    assert (len(norms), len(names - norms)) == (14, num_trained)
    torch.manual_seed(1)
    for parameter in trained_tensors(model).values():
        parameter.data += 0.1 * torch.randn_like(parameter)
    save_adapter(tmp_path / "eo.safetensors", model)
    assert fresh.awaits_data or not torch.equal(logits(fresh), logits(model))
    load_adapter(tmp_path / "eo.safetensors", fresh)
    assert torch.equal(logits(fresh), logits(model))


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda value: value[..., :-1], "has shape|other layers or sizes"),
        (lambda value: value * torch.nan, "not finite"),
        (lambda value: None, "only in the model|other layers or sizes"),
    ],
)
@pytest.mark.parametrize("part", ["fc1.initial.lora_A", "fc2.lora_B.default.weight"])
def test_a_basis_in_a_file_is_checked_before_the_model_is_changed(
    tiny_whisper, tmp_path, part, change, message
):
    settings = {"config": "LoraConfig", "r": 2, "init_lora_weights": "corda"}
    base = Whisper(tiny_whisper, tmp_path / "pretrained")
    model = AdaptedWhisper(base, PeftAdapters, settings, tmp_path / "basis")
    fresh = AdaptedWhisper(
        Whisper(tiny_whisper, tmp_path / "pretrained"), PeftAdapters, settings
    )
    before = {name: value.clone() for name, value in fresh.state_dict().items()}
    wav = torch.randn(1, 16000)
    tokens = torch.tensor([base.prompt + [400, 500]])
    model.calibrate(tmp_path / "initial.safetensors", lambda: model(wav, tokens))
    file = tmp_path / "eo.safetensors"
    save_adapter(file, model)
    metadata, tensors = read_adapter(file)
    (name,) = [name for name in tensors if name.endswith(f"decoder.layers.0.{part}")]
    tensors[name] = change(tensors[name])
    tensors = {name: value for name, value in tensors.items() if value is not None}
    write_adapter(file, metadata, tensors, "fp32")
    with pytest.raises(AdapterFileError, match=message):
        load_adapter(file, fresh)
    after = fresh.state_dict()
    assert fresh.awaits_data and after.keys() == before.keys()
    assert all(torch.equal(after[name], value) for name, value in before.items())


@pytest.mark.parametrize("config", ["IA3Config", "LNTuningConfig"])
def test_configurations_without_a_rank(config):
    model = nn.Sequential(nn.Linear(8, 8), nn.LayerNorm(8))
    layer = "1" if config == "LNTuningConfig" else "0"
    settings = {"feedforward_modules": []} if config == "IA3Config" else {}
    adapters = PeftAdapters(config, **settings)
    adapters.insert(model, [layer], adapters.make_basis(model, [layer], {}))
    trained = [name for name, p in model.named_parameters() if p.requires_grad]
    assert trained and all(name.startswith(layer) for name in trained)


@pytest.mark.parametrize("kind", ["corda", "LoRA_GA"])
@pytest.mark.parametrize("run", [None, lambda: None])
def test_calibration_without_data_is_refused(kind, run):
    model = nn.Sequential(nn.Linear(8, 8))
    adapters = PeftAdapters("LoraConfig", r=2, init_lora_weights=kind)
    with pytest.raises(ValueError, match="needs data|calibration"):
        adapters.make_basis(model, ["0"], {}, run)
    assert model.training
