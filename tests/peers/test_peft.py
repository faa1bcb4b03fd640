"""PEFT's methods as put into Whisper here, against PEFT used by itself.

The reference is transformers' Whisper wrapped by ``peft.get_peft_model``.  From
the same seed both give the same output, the same gradients and, after three
steps of AdamW, the same parameters and output.  SumRA is compared in PEFT's own
layout, as LoRA with its A and B.  No method changes the output of the model it
is put into, PEFT's merge keeps the output of a trained one, VeRA's projections
are one for all layers, and AdaLoRA has PEFT's regularizer and rank schedule.
"""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from transformers import WhisperForConditionalGeneration, WhisperModel

from speechbrain_sumra import SumRA
from speechbrain_sumra.adalora import AdaLora
from speechbrain_sumra.adapted import AdaptedWhisper
from speechbrain_sumra.peft_adapters import PeftAdapters
from speechbrain_sumra.whisper import Whisper

peft = pytest.importorskip("peft", reason="needs [baselines]")
BaseTunerLayer = peft.tuners.tuners_utils.BaseTunerLayer
VeraLinear = peft.tuners.vera.Linear

# The ten linear layers of each decoder layer, as a user of PEFT names them.
TARGETS = (
    r"(model\.)?decoder\.layers\.\d+\."
    r"((self_attn|encoder_attn)\.(q|k|v|out)_proj|fc1|fc2)"
)
SEED = 5
STEPS = 3
close = partial(torch.testing.assert_close, rtol=1e-4, atol=1e-5)


@dataclass(frozen=True)
class Method:
    """A method here, and how a user of PEFT has it.

    ``by_hand`` is what such a user does to the wrapped model after that; it
    takes that model and ours.
    """

    adapter_class: type
    settings: dict
    config: Callable[[], "peft.PeftConfig"]
    by_hand: Callable[[nn.Module, nn.Module], None]


def freeze_a(reference, ours):
    for name, parameter in reference.named_parameters():
        if ".lora_A." in name:
            parameter.requires_grad_(False)


def freeze_a_of_unit_rows(reference, ours):
    freeze_a(reference, ours)
    for name, parameter in reference.named_parameters():
        if ".lora_A." in name:
            parameter.data = nn.functional.normalize(parameter.data, dim=1)


def import_a_and_b(reference, ours):
    """Our SumRA as an adapter file of PEFT would have it."""
    parts = {"adapter_down_proj": "lora_A", "adapter_up_proj": "lora_B"}
    state = {
        f"base_model.model.{layer}.{part}.weight": module.get_submodule(own).weight
        for layer, module in ours.named_modules()
        if isinstance(module, SumRA)
        for own, part in parts.items()
    }
    assert len(state) == 40
    result = peft.set_peft_model_state_dict(reference, state)
    assert not result.unexpected_keys


def import_b_on_frozen_a(reference, ours):
    import_a_and_b(reference, ours)
    freeze_a(reference, ours)


@torch.no_grad()
def take_our_signs(reference, ours):
    """A pair of singular vectors may have either sign: PEFT has its machine's."""
    theirs = dict(reference.named_parameters())
    for name, down in ours.named_parameters():
        if ".lora_A." in name:
            other = theirs[f"base_model.model.{name}"]
            signs = (other * down).sum(dim=1).sign()
            other *= signs[:, None]
            theirs[f"base_model.model.{name.replace('lora_A', 'lora_B')}"] *= signs


def do_nothing(reference, ours):
    pass


def of_peft(config, ours=None, theirs=None, by_hand=do_nothing, **settings):
    """A method whose settings are PEFT's, but for those in ours and theirs."""
    reference = partial(
        getattr(peft, config), target_modules=TARGETS, **settings, **(theirs or {})
    )
    own = {"config": config, "seed": SEED, **settings, **(ours or {})}
    return Method(PeftAdapters, own, reference, by_hand)


lora = partial(of_peft, "LoraConfig", r=4, lora_alpha=8)
exact = partial(lora, by_hand=take_our_signs)


def corda(kind):
    from peft.tuners.lora.config import CordaConfig

    return lora(
        {"corda_config": {"corda_method": kind}},
        {"corda_config": CordaConfig(corda_method=kind)},
        init_lora_weights="corda",
    )


def lora_ga(**options):
    from peft.tuners.lora.config import LoraGAConfig

    return lora(
        {"lora_ga_config": options},
        {"lora_ga_config": LoraGAConfig(**options)},
        init_lora_weights="lora_ga",
    )


def adalora():
    settings = {"init_r": 6, "target_r": 4, "lora_alpha": 8}
    steps = {"tinit": 2, "tfinal": 3, "total_step": 10}
    return Method(
        AdaLora,
        {"seed": SEED, "tinit": 0.2, "tfinal": 0.3, **settings},
        partial(peft.AdaLoraConfig, target_modules=TARGETS, **settings, **steps),
        do_nothing,
    )


def sumra(by_hand, **settings):
    config = partial(peft.LoraConfig, target_modules=TARGETS, r=4, lora_alpha=8)
    return Method(SumRA, {"rank": 4, "alpha": 8, **settings}, config, by_hand)


METHODS = {
    "LoRA": lora(),
    "LoRA, Gaussian": lora(init_lora_weights="gaussian"),
    "LoRA, orthogonal": lora(init_lora_weights="orthogonal"),
    "LoRA-FA": lora({"frozen": ["*.lora_A.*"]}, by_hand=freeze_a),
    "LoRA-FA, unit rows": lora(
        {"frozen": ["*.lora_A.*"], "row_norm": "unit"}, by_hand=freeze_a_of_unit_rows
    ),
    "DoRA": lora(use_dora=True),
    "PiSSA": exact(init_lora_weights="pissa"),
    "PiSSA, fast": lora(init_lora_weights="pissa_niter_4"),
    "PiSSA, rank-stabilized": exact(init_lora_weights="pissa", use_rslora=True),
    "PiSSA with DoRA": exact(init_lora_weights="pissa", use_dora=True),
    "OLoRA": exact(init_lora_weights="olora"),
    "MiCA": lora(init_lora_weights="mica"),
    "CorDA": corda("ipm"),
    "CorDA, smallest components": corda("kpm"),
    "LoRA-GA": lora_ga(),
    "LoRA-GA, random": lora_ga(direction="random", scale="gd_scale"),
    "VeRA": of_peft("VeraConfig", r=8, projection_prng_key=SEED),
    "AdaLoRA": adalora(),
    "MiSS": of_peft("MissConfig", r=4),
    "SumRA": sumra(import_b_on_frozen_a),
    "SumRA, A trained": sumra(import_a_and_b, train_down_proj=True),
}
of_each_method = pytest.mark.parametrize("name", METHODS)
OF_PEFT = [n for n, m in METHODS.items() if issubclass(m.adapter_class, PeftAdapters)]
# LoRA-GA's calibration counts gradients with hooks, on which torch remarks.
pytestmark = pytest.mark.filterwarnings("ignore:Full backward hook is firing")


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Layers this small gain nothing by more, and lose much on a busy machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@cache
def batches():
    """Encoder states, tokens and what the decoder's states shall be."""
    generator = torch.Generator().manual_seed(0)
    draw = partial(torch.randn, generator=generator)
    return [
        SimpleNamespace(
            states=draw(2, 20, 16),
            tokens=torch.randint(50000, (2, 12), generator=generator),
            wanted=draw(2, 12, 16),
        )
        for _ in range(STEPS)
    ]


def decode(model, states, tokens):
    return model(
        encoder_outputs=(states,), decoder_input_ids=tokens, use_cache=False
    ).last_hidden_state


def loss_of(hidden, wanted):
    return (hidden - wanted).square().sum(dim=-1).mean()


def calibrate(model):
    """One utterance after another, for the methods that start from data."""
    for batch in batches():
        for states, tokens, wanted in zip(
            batch.states, batch.tokens, batch.wanted, strict=True
        ):
            hidden = decode(model, states[None], tokens[None])
            if torch.is_grad_enabled():
                loss_of(hidden, wanted).backward()


def ours_of(method, folder, tmp_path):
    """Whisper of this package with the method's adapters, and nothing else."""
    model = AdaptedWhisper(
        Whisper(folder, tmp_path / "pretrained"),
        method.adapter_class,
        method.settings,
        tmp_path / "basis",
        train_norms=False,
    )
    if model.awaits_data:
        run = partial(calibrate, model.model)
        model.calibrate(tmp_path / "initialization.safetensors", run)
    return model


def reference_of(method, folder, whisper_class=WhisperModel):
    """transformers' Whisper wrapped as PEFT's documentation says."""
    # A copy lies in memory as ours does: weights that are mapped from a file are
    # aligned differently, by which singular vectors are rounded differently.
    model = copy.deepcopy(whisper_class.from_pretrained(folder))
    config = method.config()
    start = getattr(config, "init_lora_weights", None)
    if start == "corda":
        from peft.tuners.lora.corda import preprocess_corda

        preprocess_corda(model, config, run_model=partial(calibrate, model))
    elif start == "lora_ga":
        from peft.tuners.lora import preprocess_loraga

        preprocess_loraga(model, config, train_step=partial(calibrate, model))
    torch.manual_seed(SEED)
    return peft.get_peft_model(model, config)


def trained(model):
    """What is trained, by PEFT's names in transformers' Whisper."""
    names = {
        "base_model.model.": "",
        "adapter_down_proj.": "lora_A.default.",
        "adapter_up_proj.": "lora_B.default.",
    }
    parameters = {}
    for name, parameter in model.named_parameters():
        for own, theirs in names.items():
            name = name.replace(own, theirs)
        if parameter.requires_grad:
            parameters[name] = parameter
    return parameters


def values(parameters):
    return {name: p.detach().clone() for name, p in parameters.items()}


def train(model):
    """What is to be compared: at initialisation and after three steps."""
    parameters = trained(model)
    optimizer = torch.optim.AdamW(parameters.values(), lr=0.01)
    facts = SimpleNamespace(start=values(parameters))
    for number, batch in enumerate(batches()):
        optimizer.zero_grad()
        hidden = decode(model, batch.states, batch.tokens)
        loss_of(hidden, batch.wanted).backward()
        if number == 0:
            facts.output_before = hidden.detach().clone()
            facts.gradients = {n: p.grad.clone() for n, p in parameters.items()}
        optimizer.step()
    facts.end = values(parameters)
    facts.output_after = output(model)
    return facts


@torch.no_grad()
def output(model):
    return decode(model, batches()[0].states, batches()[0].tokens)


@pytest.fixture(scope="module")
def runs(tiny_whisper, tmp_path_factory):
    """Both sides of a method, trained alike; each is made once."""

    @cache
    def run(name):
        method = METHODS[name]
        ours = ours_of(method, tiny_whisper, tmp_path_factory.mktemp("run")).model
        reference = reference_of(method, tiny_whisper)
        method.by_hand(reference, ours)
        return SimpleNamespace(model=ours, ours=train(ours), reference=train(reference))

    return run


@pytest.fixture(scope="module")
def unadapted(tiny_whisper):
    return output(WhisperModel.from_pretrained(tiny_whisper))


def tolerance(name):
    """PEFT's singular vectors are of float32."""
    return 1e-5 if METHODS[name].by_hand is take_our_signs else 1e-6


@of_each_method
def test_same_parameters_train_from_the_same_values(runs, name):
    run = runs(name)
    assert run.ours.start
    close(run.ours.start, run.reference.start, rtol=0, atol=tolerance(name))


@of_each_method
def test_output_at_initialisation_is_pefts(runs, name):
    run = runs(name)
    close(run.ours.output_before, run.reference.output_before)


@of_each_method
def test_gradients_at_initialisation_are_pefts(runs, name):
    run = runs(name)
    close(run.ours.gradients, run.reference.gradients, atol=tolerance(name))
    largest = max(g.abs().max() for g in run.ours.gradients.values())
    assert largest > 0.001


@of_each_method
def test_parameters_and_output_after_three_steps_are_pefts(runs, name):
    run = runs(name)
    close(run.ours.end, run.reference.end)
    close(run.ours.output_after, run.reference.output_after)


@of_each_method
def test_three_steps_move_the_output(runs, name):
    facts = runs(name).ours
    assert (facts.output_after - facts.output_before).abs().max() > 0.001


@of_each_method
def test_output_is_unchanged_at_step_0(runs, unadapted, name):
    close(runs(name).ours.output_before, unadapted, rtol=0, atol=1e-4)


@pytest.mark.parametrize("name", OF_PEFT)
def test_pefts_merge_keeps_the_output_of_a_trained_model(runs, name):
    run = runs(name)
    merged = copy.deepcopy(run.model)
    layers = [m for m in merged.modules() if isinstance(m, BaseTunerLayer)]
    for layer in layers:
        layer.merge()
    assert len(layers) == 20 and all(layer.merged for layer in layers)
    close(output(merged), run.ours.output_after)


@torch.no_grad()
def test_vera_layers_of_all_shapes_share_one_pair_of_projections(runs):
    layers = [m for m in runs("VeRA").model.modules() if isinstance(m, VeraLinear)]
    first, second = layers[0].vera_A["default"], layers[0].vera_B["default"]
    assert first.shape == (8, 32) and second.shape == (32, 8)
    shapes = set()
    for layer in layers:
        assert layer.vera_A["default"].data_ptr() == first.data_ptr()
        assert layer.vera_B["default"].data_ptr() == second.data_ptr()
        base = layer.get_base_layer()
        shapes.add((base.in_features, base.out_features))
        x = torch.randn(3, base.in_features)
        update = layer.vera_lambda_d["default"] * (x @ first[:, : base.in_features].T)
        update = update @ second[: base.out_features].T
        close(layer(x), base(x) + layer.vera_lambda_b["default"] * update)
    assert len(layers) == 20 and shapes == {(16, 16), (16, 32), (32, 16)}


@pytest.fixture(scope="module")
def adalora_runs(tiny_whisper, tmp_path_factory):
    """AdaLoRA over its whole schedule, the loss with the regularizer."""
    method = METHODS["AdaLoRA"]
    ours = ours_of(method, tiny_whisper, tmp_path_factory.mktemp("adalora"))
    ours.adapters.start_training(10)
    reference = reference_of(method, tiny_whisper, WhisperForConditionalGeneration)

    def loss_of_ours(states, tokens, labels):
        logits = ours(None, tokens, states)[1].flatten(0, 1)
        loss = nn.functional.cross_entropy(logits, labels.flatten())
        return loss + ours.regularizer()

    def loss_of_reference(states, tokens, labels):
        # A PeftModel without a task type passes its tuner by, and with it the
        # regularizer.
        return reference.base_model(
            encoder_outputs=(states,), decoder_input_ids=tokens, labels=labels
        ).loss

    return SimpleNamespace(
        ours=follow_schedule(
            ours.adapted_model,
            loss_of_ours,
            ours.adapters.after_step,
            ours.adapters.config,
        ),
        reference=follow_schedule(
            reference,
            loss_of_reference,
            reference.base_model.update_and_allocate,
            reference.peft_config["default"],
        ),
        regularizer=ours.regularizer().item(),
    )


def follow_schedule(model, loss_of, after_step, config):
    """Losses and kept ranks of ten steps, and what they end with."""
    parameters = trained(model)
    optimizer = torch.optim.AdamW(parameters.values(), lr=0.01)
    facts = SimpleNamespace(losses=[], kept=[])
    for step in range(1, 11):
        optimizer.zero_grad()
        batch = batches()[step % STEPS]
        loss = loss_of(batch.states, batch.tokens, batch.tokens.roll(-1, dims=1))
        loss.backward()
        optimizer.step()
        after_step(step)
        facts.losses.append(loss.item())
        facts.kept.append(copy.deepcopy(config.rank_pattern))
    facts.end = values(parameters)
    return facts


def test_adalora_loss_with_regularizer_is_pefts(adalora_runs):
    ours, reference = adalora_runs.ours, adalora_runs.reference
    assert ours.losses == pytest.approx(reference.losses, rel=1e-5)
    assert adalora_runs.regularizer > 0.1


def test_adalora_ranks_and_parameters_over_the_schedule_are_pefts(adalora_runs):
    ours, reference = adalora_runs.ours, adalora_runs.reference
    assert ours.kept == reference.kept
    close(ours.end, reference.end)


def test_adalora_ranks_fall_to_the_target_within_the_schedule(adalora_runs):
    first, *middle, last = adalora_runs.ours.kept
    ranks = [sum(map(sum, kept.values())) for kept in middle if kept is not None]
    assert not first and not middle[0]  # tinit is 2 steps
    assert ranks == sorted(ranks, reverse=True) and len(set(ranks)) > 2
    # tfinal is 3 steps; 20 layers of a mean rank of 4.
    assert ranks[-3:] == [80] * 3 and sum(map(sum, last.values())) == 80


@torch.no_grad()
def logits_in_float64(whisper, tokens, states):
    """Of the decoder; in float32 rounding alone is 1.6e-4 of logits up to 24."""
    logits = whisper.double()(None, tokens, states.double())[1]
    whisper.float()
    return logits


@pytest.mark.real
@pytest.mark.parametrize("start", ["pissa", "corda"])
def test_logits_of_whisper_base_are_unchanged_at_step_0(whisper_base, tmp_path, start):
    torch.manual_seed(0)
    whisper = Whisper(whisper_base, tmp_path / "pretrained")
    states = whisper.encode(0.1 * torch.randn(1, 16000))
    tokens = torch.tensor([[*whisper.prompt, *torch.randint(50000, (10,)).tolist()]])
    before = logits_in_float64(whisper, tokens, states)
    settings = {"config": "LoraConfig", "r": 32, "init_lora_weights": start}
    adapted = AdaptedWhisper(whisper, PeftAdapters, settings, tmp_path / "basis")
    if adapted.awaits_data:
        adapted.calibrate(tmp_path / "start", lambda: whisper(None, tokens, states))
    after = logits_in_float64(whisper, tokens, states)
    assert not torch.equal(after, before)  # rounding: adapters took part
    close(after, before, rtol=0, atol=1e-4)
