"""The training loop's hooks: regularizer, parameter groups, steps, calibration."""

from functools import partial
from types import SimpleNamespace

import pytest
import speechbrain as sb
import torch
from torch import nn

from speechbrain_sumra import SORSA, SumRA
from speechbrain_sumra.adapted import AdaptedWhisper, trained_tensors
from speechbrain_sumra.training.brain import ASR, SECONDS_BETWEEN_PLOTS
from speechbrain_sumra.training.checkpoint import Checkpointer
from speechbrain_sumra.whisper import Whisper


def encode(whisper):
    torch.manual_seed(1)
    with torch.no_grad():
        return whisper.encode(torch.randn(1, 1600)), torch.tensor([1500])


class Batch(SimpleNamespace):
    """What the loss needs of a batch."""

    def to(self, device):
        return self


@pytest.fixture
def brain(tiny_whisper, tmp_path):
    def build(adapter_class=SumRA, lora_plus_ratio=1.0, max_grad_norm=5.0, **settings):
        base = Whisper(tiny_whisper, tmp_path / "pretrained")
        kwargs = {"rank": 2, **settings}
        model = AdaptedWhisper(base, adapter_class, kwargs, tmp_path / "basis")
        hparams = {
            "whisper": model,
            "lr": 0.1,
            "lora_plus_ratio": lora_plus_ratio,
            "encoder_states": lambda paths, whisper, augment: encode(whisper),
            "augmentation": None,
            "label_smoothing": 0.0,
            "decode": True,
        }
        return ASR(
            modules={"whisper": model},
            opt_class=torch.optim.SGD,
            hparams=hparams,
            run_opts={"device": "cpu", "max_grad_norm": max_grad_norm},
            checkpointer=Checkpointer(tmp_path / "save"),
        )

    return build


@pytest.fixture
def batch():
    torch.manual_seed(0)
    prompt = [50258, 50359, 50363]
    return Batch(
        wav=["a"],
        tokens_bos=(torch.tensor([prompt + [400, 500]]), torch.ones(1)),
        tokens_eos=(torch.tensor([[-100, -100, 400, 500, 50257]]), torch.ones(1)),
    )


def losses(brain, batch):
    predictions = brain.compute_forward(batch, sb.Stage.TRAIN)
    brain._count_errors = lambda *_: None
    return [
        brain.compute_objectives(predictions, batch, stage)
        for stage in (sb.Stage.TRAIN, sb.Stage.VALID)
    ]


def test_the_regularizer_is_added_in_training_alone(brain, batch):
    trainer = brain(SORSA, gamma=0.5)
    for parameter in trained_tensors(trainer.whisper).values():
        nn.init.normal_(parameter.data)
    regularizer = trainer.whisper.regularizer()
    assert regularizer > 1
    training, validation = losses(trainer, batch)
    torch.testing.assert_close(training - validation, regularizer, rtol=1e-4, atol=1e-3)


def test_methods_without_a_regularizer_have_the_same_loss(brain, batch):
    training, validation = losses(brain(), batch)
    assert torch.equal(training, validation)


def test_labels_are_smoothed_in_training_alone(brain, batch):
    trainer = brain()
    trainer.hparams.decode = False
    training, validation = (
        trainer.compute_forward(batch, stage)[0].item()
        for stage in (sb.Stage.TRAIN, sb.Stage.VALID)
    )
    trainer.hparams.label_smoothing = 0.1
    smoothed, same = (
        trainer.compute_forward(batch, stage)[0].item()
        for stage in (sb.Stage.TRAIN, sb.Stage.VALID)
    )
    assert training == validation == same != smoothed


def test_one_group_of_the_trained_parameters(brain):
    trainer = brain()
    trainer.init_optimizers()
    (group,) = trainer.optimizer.param_groups
    trained = trained_tensors(trainer.whisper).values()
    assert {id(p) for p in group["params"]} == {id(p) for p in trained}
    assert group["lr"] == 0.1


def test_b_learns_faster_with_lora_plus(brain):
    trainer = brain(train_down_proj=True, lora_plus_ratio=16)
    trainer.init_optimizers()
    slow, fast = trainer.optimizer.param_groups
    assert (slow["lr"], fast["lr"]) == pytest.approx((0.1, 1.6))
    assert len(fast["params"]) == 20


@pytest.mark.parametrize("ratio", [1.0, 16.0])
def test_gradients_of_all_groups_are_clipped_together(brain, batch, ratio):
    trainer = brain(train_down_proj=True, lora_plus_ratio=ratio, max_grad_norm=1e-3)
    trainer.init_optimizers()
    trained = list(trained_tensors(trainer.whisper).values())
    for parameter in trained:
        parameter.grad = torch.randn_like(parameter)
    before = [parameter.detach().clone() for parameter in trained]
    gradients = [parameter.grad.clone() for parameter in trained]
    norm = torch.cat([gradient.flatten() for gradient in gradients]).norm()
    rates = {
        id(parameter): group["lr"]
        for group in trainer.optimizer.param_groups
        for parameter in group["params"]
    }
    trainer.optimizers_step()
    for parameter, old, gradient in zip(trained, before, gradients, strict=True):
        step = (parameter - old) / -rates[id(parameter)]
        expected = gradient * 1e-3 / norm
        torch.testing.assert_close(step, expected, rtol=1e-2, atol=1e-6)


def test_the_method_hears_of_every_step_with_gradients(brain, batch):
    trainer = brain()
    heard = []

    def after_step(step):
        parameters = trained_tensors(trainer.whisper).values()
        heard.append((step, all(p.grad is not None for p in parameters)))

    trainer.whisper.adapters.after_step = after_step
    trainer.init_optimizers()
    trainer.modules.train()
    for trainer.step in (1, 2):
        trainer.fit_batch(batch)
    assert heard == [(1, True), (2, True)]


def test_the_method_hears_nothing_of_steps_that_overflow(brain):
    trainer, heard = brain(), []
    trainer.whisper.adapters.after_step = heard.append
    trainer.opt_class = partial(torch.optim.AdamW, fused=True)
    trainer.init_optimizers()
    for overflowed in (1.0, 0.0):
        trainer.optimizer.found_inf = torch.tensor(overflowed)  # as GradScaler does
        trainer.optimizer.step()
        assert len(heard) == 1 - overflowed


def test_the_best_checkpoints_are_averaged(brain):
    trainer = brain()
    trainer.checkpointer.add_recoverable("whisper", trainer.whisper)
    trained = trained_tensors(trainer.whisper)
    saved = []
    for wer in (30.0, 10.0, 20.0):
        for parameter in trained.values():
            nn.init.normal_(parameter.data)
        saved.append({name: value.detach().clone() for name, value in trained.items()})
        trainer.checkpointer.save_checkpoint({"WER": wer})
    for number, members in ((1, [1]), (2, [1, 2]), (3, [0, 1, 2])):
        trainer.hparams.avg_checkpoints = number
        trainer.on_evaluate_start(min_key="WER")
        for name, value in trained_tensors(trainer.whisper).items():
            mean = sum(saved[i][name] for i in members) / number
            torch.testing.assert_close(value, mean)
    # Without a measure, as it is.
    for parameter in trained.values():
        nn.init.ones_(parameter.data)
    trainer.on_evaluate_start()
    for value in trained_tensors(trainer.whisper).values():
        assert (value == 1).all()


def test_too_few_batches_for_a_step_are_refused(brain):
    trainer = brain()
    trainer.batches_per_part, trainer.grad_accumulation_factor = 3, 4
    with pytest.raises(ValueError, match="4 batches .*only 3.*Lower it"):
        trainer.on_fit_start()


def test_the_last_plot_is_drawn_and_of_the_others_few(brain, tmp_path):
    trainer, drawn = brain(), []
    trainer.hparams.output_folder = tmp_path
    trainer.hparams.history = SimpleNamespace(plot=drawn.append)
    for last in (False, False, True):
        trainer._plot(last)
    assert drawn == [tmp_path / "training.png"] * 2
    trainer.drawn -= SECONDS_BETWEEN_PLOTS
    trainer._plot(last=False)
    assert len(drawn) == 3
