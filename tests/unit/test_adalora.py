"""AdaLoRA: the schedule, the rank in the end, its regularizer, and resuming."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from speechbrain.utils.checkpoints import Checkpointer
from torch import nn

pytest.importorskip("peft", reason="needs [baselines]")

from speechbrain_sumra.adalora import IMPORTANCE, AdaLora

LAYERS = ["0", "2"]
STEPS = 20


def adapted(**settings):
    """A small model, AdaLoRA in it, and an optimizer."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 12), nn.ReLU(), nn.Linear(12, 6))
    method = AdaLora(**{"init_r": 4, "target_r": 2, **settings})
    method.insert(model, LAYERS, method.make_basis(model, LAYERS, {}))
    method.start_training(STEPS)
    trained = [p for p in model.parameters() if p.requires_grad]
    return model, method, torch.optim.AdamW(trained, lr=0.05)


def train(model, method, optimizer, first=1, last=STEPS):
    """Yields the step after each."""
    for step in range(first, last + 1):
        generator = torch.Generator().manual_seed(step)
        x, target = (torch.randn(9, n, generator=generator) for n in (8, 6))
        loss = (model(x) - target).square().mean() + method.regularizer(model)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        method.after_step(step)
        yield step


def singular_values(model):
    return [model[i].lora_E["default"] for i in (0, 2)]


def rank_of(model):
    return sum(int(values.count_nonzero()) for values in singular_values(model))


@pytest.mark.parametrize("init_r, target_r", [(2, 2), (2, 3)])
def test_the_rank_must_fall(init_r, target_r):
    with pytest.raises(ValueError, match=rf"target_r \({target_r}\) must be below"):
        AdaLora(init_r, target_r)


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"orth_reg_weight": -1}, "orth_reg_weight"),
        ({"use_dora": True}, "DoRA"),
        ({"nonsense": 1}, "'nonsense'"),
    ],
)
def test_what_peft_refuses(settings, message):
    with pytest.raises(ValueError, match=f"PEFT refuses .*AdaLoraConfig: .*{message}"):
        AdaLora(4, 2, **settings)


@pytest.mark.parametrize(
    "tinit, tfinal, total_steps, expected",
    [
        (0.1, 0.3, 100, (10, 30)),
        (0.1, 0.3, 1000, (100, 300)),
        (5, 7, 100, (5, 7)),
        (0.25, 4, 20, (5, 4)),
        (0, 1, 20, (0, 1)),
        (10, 8, 20, (10, 8)),
    ],
)
def test_schedule_is_in_steps_or_shares_below_1(tinit, tfinal, total_steps, expected):
    _, method, _ = adapted()
    method.schedule = {"tinit": tinit, "tfinal": tfinal}
    method.start_training(total_steps)
    config = method.tuner.peft_config["default"]
    assert (config.tinit, config.tfinal) == expected
    assert config.total_step == total_steps


@pytest.mark.parametrize("tinit, tfinal", [(10, 10), (0.5, 0.5), (30, 0), (0, 19)])
def test_a_schedule_without_steps_to_reduce_in_is_refused(tinit, tfinal):
    with pytest.raises(ValueError, match="leave none of 20 training steps"):
        adapted(tinit=tinit, tfinal=tfinal)


def test_settings_include_the_schedule():
    method = AdaLora(4, 2, tfinal=0.2, lora_alpha=8)
    expected = {"init_r": 4, "target_r": 2, "tinit": 0.1, "tfinal": 0.2}
    assert expected.items() <= method.settings.items()
    assert method.settings["lora_alpha"] == 8
    assert method.has_state and not method.needs_data


def test_output_is_unchanged_at_step_0():
    model, _, _ = adapted()
    x = torch.randn(5, 8)
    torch.manual_seed(0)
    original = nn.Sequential(nn.Linear(8, 12), nn.ReLU(), nn.Linear(12, 6))
    assert torch.equal(model(x), original(x))
    assert [name for name, p in model.named_parameters() if p.requires_grad] == [
        f"{layer}.lora_{part}.default" for layer in LAYERS for part in "ABE"
    ]


@pytest.mark.parametrize("target_r", [1, 2, 3])
@pytest.mark.parametrize("tinit, tfinal", [(5, 6), (10, 8), (0, 18)])
def test_rank_falls_to_the_target_and_stays(target_r, tinit, tfinal):
    model, method, optimizer = adapted(target_r=target_r, tinit=tinit, tfinal=tfinal)
    ranks = {0: 4 * 2}
    for step in train(model, method, optimizer):
        ranks[step] = rank_of(model)
        assert ranks[step] <= ranks[step - 1]
    assert all(ranks[step] == 4 * 2 for step in range(1, tinit + 1))
    assert all(ranks[s] == target_r * 2 for s in range(STEPS - tfinal, STEPS + 1))
    pattern = method.config.rank_pattern
    for name, values in zip(LAYERS, singular_values(model), strict=True):
        assert pattern[f"{name}.lora_E.default"] == values.flatten().bool().tolist()


def test_basis_is_empty():
    model = nn.Sequential(nn.Linear(8, 12), nn.ReLU(), nn.Linear(12, 6))
    assert not AdaLora(4, 2).make_basis(model, LAYERS, {}).tensors


def departure(rows):
    return np.linalg.norm(rows @ rows.T - np.eye(len(rows)), "fro")


def test_regularizer_is_the_mean_departure_from_orthonormal():
    model, method, _ = adapted(orth_reg_weight=0.25)
    departures = []
    for i in (0, 2):
        right, left = model[i].lora_A["default"], model[i].lora_B["default"]
        nn.init.normal_(right)
        departures += [departure(right.detach().numpy())]
        departures += [departure(left.detach().numpy().T)]
    expected = 0.25 * np.mean(departures)
    regularizer = method.regularizer(model)
    assert regularizer.item() == pytest.approx(expected, rel=1e-5)
    regularizer.backward()
    for i in (0, 2):
        for part in (model[i].lora_A, model[i].lora_B):
            assert part["default"].grad.abs().sum() > 0


def test_regularizer_is_what_peft_adds_to_a_loss():
    model, method, _ = adapted()

    def forward(x):
        return SimpleNamespace(loss=torch.zeros(()))

    method.tuner.model.forward = forward
    added = method.tuner.forward(torch.zeros(1, 8)).loss
    torch.testing.assert_close(method.regularizer(model), added)


def test_importances_come_to_the_device_of_the_model(tmp_path, monkeypatch):
    model, method, _ = adapted()
    method.save(tmp_path / "state.pt")
    places = []
    load = torch.load

    def watched(*args, map_location=None, **kwargs):
        places.append(map_location)
        return load(*args, map_location=map_location, **kwargs)

    monkeypatch.setattr(torch, "load", watched)
    method.load(tmp_path / "state.pt")
    assert places == [model[0].lora_A["default"].device]


def test_regularizer_of_orthonormal_matrices_is_0():
    model, method, _ = adapted()
    for i in (0, 2):
        nn.init.orthogonal_(model[i].lora_A["default"])
        nn.init.orthogonal_(model[i].lora_B["default"])
    assert method.regularizer(model) < 1e-5


@pytest.mark.parametrize("stop", [3, 10, 14, 17])
def test_a_resumed_training_equals_an_uninterrupted_one(stop, tmp_path):
    """Stopped while it warms up, reduces, has just reduced, and after that."""

    def run(checkpoint, first, last):
        model, method, optimizer = adapted(tinit=5, tfinal=6)
        recoverables = {"model": model, "optimizer": optimizer, "method": method}
        checkpointer = Checkpointer(tmp_path, recoverables)
        if first > 1:
            checkpointer.recover_if_possible()
        allocator = method.tuner.rankallocator
        state = {name: dict(getattr(allocator, name)) for name in IMPORTANCE}
        state["rank_pattern"] = method.config.rank_pattern
        for _ in train(model, method, optimizer, first, last):
            pass
        if checkpoint:
            checkpointer.save_checkpoint()
        return model, method, state

    expected, _, _ = run(False, 1, STEPS)
    _, stopped, _ = run(True, 1, stop)
    resumed, _, restored = run(False, stop + 1, STEPS)

    for name in IMPORTANCE:
        saved = getattr(stopped.tuner.rankallocator, name)
        assert saved.keys() == restored[name].keys()
        assert bool(saved) == (stop < STEPS - 6)  # none is kept when it has reduced
        assert all(torch.equal(saved[key], restored[name][key]) for key in saved)
    assert restored["rank_pattern"] == stopped.config.rank_pattern
    assert (restored["rank_pattern"] is not None) == (stop > 5)
    for name, value in expected.state_dict().items():
        assert torch.equal(resumed.state_dict()[name], value)
