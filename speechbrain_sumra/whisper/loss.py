"""Cross-entropy of a large vocabulary without a table of all its logits."""

import torch
from torch.nn import functional as F

# Targets at a time, of Whisper's vocabulary of 51865: to multiply (26 MB in bfloat16)
# and to convert to float32 and compute with (3 MB, which stay near the processor).
CHUNK = 256
FLOAT_CHUNK = 16


def projected_cross_entropy(
    hidden: torch.Tensor,
    weight: torch.Tensor,
    targets: torch.Tensor,
    label_smoothing: float = 0.0,
) -> torch.Tensor:
    """Mean cross-entropy of ``softmax(hidden @ weight.T)``.

    With label smoothing e, the target has probability ``1 - e + e / V`` and each of the
    other tokens of a vocabulary of V has ``e / V`` (Szegedy et al., 2016, section 7).

    Where the weight is frozen, the gradient of ``hidden`` is computed along with
    the loss, some targets at a time and in place, so no more than ``CHUNK`` rows of
    logits and a float32 copy of ``FLOAT_CHUNK`` are ever held. Where it is trained,
    this is ``cross_entropy`` of all logits.

    Arguments
    ---------
    hidden : torch.Tensor
        Decoder states, shape (number, width).
    weight : torch.Tensor
        Output projection, shape (vocabulary, width), in the precision to
        multiply in.
    targets : torch.Tensor
        Token ids, shape (number,).
    label_smoothing : float
        e, from 0 to 1.

    Returns
    -------
    torch.Tensor
        A scalar, float32.

    Raises
    ------
    ValueError
        If label smoothing is no share of one.

    Example
    -------
    >>> hidden, weight = torch.randn(5, 4), torch.randn(9, 4)
    >>> targets = torch.tensor([0, 8, 3, 3, 1])
    >>> loss = projected_cross_entropy(hidden, weight, targets)
    >>> torch.allclose(loss, F.cross_entropy(hidden @ weight.T, targets))
    True
    """
    if not 0 <= label_smoothing <= 1:
        raise ValueError(
            f"Expected label_smoothing from 0 to 1, found {label_smoothing}."
        )
    if weight.requires_grad and torch.is_grad_enabled():
        logits = F.linear(hidden, weight).float()
        return F.cross_entropy(logits, targets, label_smoothing=label_smoothing)
    return _FrozenProjection.apply(hidden, weight, targets, label_smoothing)


def project(states: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """``states @ weight.T`` for a large vocabulary.

    In float32 CPUs are up to three times as fast with few rows where the larger matrix
    comes first. The result is then the transpose of what lies in memory.

    Arguments
    ---------
    states : torch.Tensor
        Decoder states, shape (number, width).
    weight : torch.Tensor
        Output projection, shape (vocabulary, width), of the same precision.

    Returns
    -------
    torch.Tensor
        Logits, shape (number, vocabulary).

    Example
    -------
    >>> states, weight = torch.randn(5, 4), torch.randn(9, 4)
    >>> torch.allclose(project(states, weight), F.linear(states, weight), atol=1e-6)
    True
    """
    if weight.dtype == torch.float32 and weight.device.type == "cpu":
        return (weight @ states.T).T
    return F.linear(states, weight)


class _FrozenProjection(torch.autograd.Function):
    @staticmethod
    def forward(ctx, hidden, weight, targets, label_smoothing):
        needs_grad = ctx.needs_input_grad[0]
        grad = torch.empty_like(hidden) if needs_grad else None
        total = torch.zeros((), device=hidden.device)
        # What autocast would do, but once for both products.
        with torch.autocast(hidden.device.type, enabled=False):
            for start in range(0, len(hidden), CHUNK):
                rows = slice(start, start + CHUNK)
                logits = project(hidden[rows].to(weight.dtype), weight)
                total += _sum_of_losses(
                    logits, targets[rows], label_smoothing, needs_grad
                )
                if needs_grad:
                    grad[rows] = (logits @ weight).to(grad.dtype)
        if needs_grad:
            ctx.save_for_backward(grad.div_(len(hidden)))
        return total / len(hidden)

    @staticmethod
    def backward(ctx, upstream):
        (grad,) = ctx.saved_tensors
        return grad * upstream, None, None, None


def _sum_of_losses(logits, targets, label_smoothing: float, needs_grad: bool):
    """Sum of the cross-entropies; its gradient, if any, takes the logits' place."""
    total = torch.zeros((), device=logits.device)
    chunk = CHUNK if logits.dtype == torch.float32 else FLOAT_CHUNK
    for rows, target in zip(
        logits.split(chunk), targets[:, None].split(chunk), strict=True
    ):
        scores = rows.float()
        scores -= scores.amax(dim=1, keepdim=True)
        total -= (1 - label_smoothing) * scores.gather(1, target).sum()
        if label_smoothing:
            total -= label_smoothing * scores.mean(dim=1).sum()
        norms = scores.exp_().sum(dim=1, keepdim=True)
        total += norms.log().sum()
        if needs_grad:
            # d loss / d logits = softmax - smoothed one-hot
            scores /= norms
            if label_smoothing:
                scores -= label_smoothing / scores.shape[1]
            one_hot = torch.full_like(target, label_smoothing - 1, dtype=scores.dtype)
            scores.scatter_add_(1, target, one_hot)
            rows.copy_(scores)
    return total
