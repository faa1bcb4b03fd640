"""Cross-entropy of a large vocabulary without a table of all its logits."""

import torch
from torch.nn import functional as F

# Targets at a time, of Whisper's vocabulary of 51865: to multiply (26 MB in bfloat16)
# and to compute with in float32 (3 MB, which stay near the processor).
CHUNK = 256
FLOAT_CHUNK = 16


def projected_cross_entropy(
    hidden: torch.Tensor, weight: torch.Tensor, targets: torch.Tensor
) -> torch.Tensor:
    """Mean cross-entropy of ``softmax(hidden @ weight.T)``.

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

    Returns
    -------
    torch.Tensor
        A scalar, float32.

    Example
    -------
    >>> hidden, weight = torch.randn(5, 4), torch.randn(9, 4)
    >>> targets = torch.tensor([0, 8, 3, 3, 1])
    >>> loss = projected_cross_entropy(hidden, weight, targets)
    >>> torch.allclose(loss, F.cross_entropy(hidden @ weight.T, targets))
    True
    """
    if weight.requires_grad and torch.is_grad_enabled():
        return F.cross_entropy(F.linear(hidden, weight).float(), targets)
    return _FrozenProjection.apply(hidden, weight, targets)


class _FrozenProjection(torch.autograd.Function):
    @staticmethod
    def forward(ctx, hidden, weight, targets):
        needs_grad = ctx.needs_input_grad[0]
        grad = torch.empty_like(hidden) if needs_grad else None
        total = torch.zeros((), device=hidden.device)
        # What autocast would do, but once for both products.
        with torch.autocast(hidden.device.type, enabled=False):
            for start in range(0, len(hidden), CHUNK):
                rows = slice(start, start + CHUNK)
                logits = F.linear(hidden[rows].to(weight.dtype), weight)
                total += _sum_of_losses(logits, targets[rows], needs_grad)
                if needs_grad:
                    grad[rows] = (logits @ weight).to(grad.dtype)
        if needs_grad:
            ctx.save_for_backward(grad.div_(len(hidden)))
        return total / len(hidden)

    @staticmethod
    def backward(ctx, upstream):
        (grad,) = ctx.saved_tensors
        return grad * upstream, None, None


def _sum_of_losses(logits, targets, needs_grad: bool) -> torch.Tensor:
    """Sum of the cross-entropies; its gradient, if any, takes the logits' place."""
    total = torch.zeros((), device=logits.device)
    for rows, target in zip(
        logits.split(FLOAT_CHUNK), targets[:, None].split(FLOAT_CHUNK), strict=True
    ):
        scores = rows.float()
        scores -= scores.amax(dim=1, keepdim=True)
        total -= scores.gather(1, target).sum()
        norms = scores.exp_().sum(dim=1, keepdim=True)
        total += norms.log().sum()
        if needs_grad:
            # d loss / d logits = softmax - one-hot
            scores /= norms
            scores.scatter_add_(1, target, -torch.ones_like(target, dtype=scores.dtype))
            rows.copy_(scores)
    return total
