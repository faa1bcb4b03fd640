"""The chunked loss equals cross-entropy, and so does its gradient."""

import pytest
import torch
from torch.nn import functional as F

from speechbrain_sumra.whisper import loss as loss_module
from speechbrain_sumra.whisper.loss import projected_cross_entropy


@pytest.fixture
def problem():
    torch.manual_seed(0)
    hidden = torch.randn(11, 8, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(50, 8, dtype=torch.float64)
    return hidden, weight, torch.randint(0, 50, (11,))


@pytest.mark.parametrize("label_smoothing", [0.0, 0.1, 1.0])
@pytest.mark.parametrize(("chunk", "float_chunk"), [(3, 2), (11, 16), (100, 4)])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_loss_and_gradient_equal_cross_entropy(
    monkeypatch, problem, dtype, chunk, float_chunk, label_smoothing
):
    monkeypatch.setattr(loss_module, "CHUNK", chunk)
    monkeypatch.setattr(loss_module, "FLOAT_CHUNK", float_chunk)
    hidden, weight, targets = problem
    hidden, weight = hidden.detach().to(dtype).requires_grad_(), weight.to(dtype)
    expected = F.cross_entropy(
        hidden @ weight.T, targets, label_smoothing=label_smoothing
    )
    (gradient,) = torch.autograd.grad(expected, hidden)
    found = projected_cross_entropy(hidden, weight, targets, label_smoothing)
    (3 * found).backward()
    # Logits are float32 in the loss, whatever they are made of.
    torch.testing.assert_close(found.double(), expected.double(), rtol=1e-6, atol=0)
    torch.testing.assert_close(hidden.grad, 3 * gradient, rtol=1e-5, atol=1e-7)


def test_large_logits_do_not_overflow():
    hidden = torch.tensor([[200.0], [-200.0]], requires_grad=True)
    weight = torch.tensor([[1.0], [-1.0]])
    loss = projected_cross_entropy(hidden, weight, torch.tensor([0, 0]))
    loss.backward()
    assert loss == 200 and torch.isfinite(hidden.grad).all()


def test_a_trained_projection_gets_its_gradient(problem):
    hidden, weight, targets = problem
    weight.requires_grad_()
    projected_cross_entropy(hidden, weight, targets).backward()
    assert weight.grad is not None and hidden.grad is not None


@pytest.mark.parametrize("label_smoothing", [-0.1, 1.1])
def test_label_smoothing_is_a_share(problem, label_smoothing):
    with pytest.raises(ValueError, match="label_smoothing from 0 to 1"):
        projected_cross_entropy(*problem, label_smoothing)


def test_no_gradient_is_computed_where_none_is_wanted(problem):
    hidden, weight, targets = problem
    with torch.no_grad():
        loss = projected_cross_entropy(hidden, weight, targets)
    assert not loss.requires_grad


def test_bfloat16_products_and_float32_sums(problem):
    hidden, weight, targets = (t.detach().clone() for t in problem)
    hidden = hidden.float().requires_grad_()
    weight = weight.bfloat16()
    logits = F.linear(hidden.bfloat16(), weight).float()
    expected = F.cross_entropy(logits, targets)
    (gradient,) = torch.autograd.grad(expected, hidden)
    with torch.autocast("cpu", torch.bfloat16):
        found = projected_cross_entropy(hidden, weight, targets)
    found.backward()
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(hidden.grad, gradient, rtol=2e-2, atol=1e-3)
