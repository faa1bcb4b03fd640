"""Attention of the decoder by matrix products, where they beat the fused kernel."""

import torch
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask
from transformers.models.whisper.modeling_whisper import eager_attention_forward

ATTENTION = "sdpa_or_matmul"


def attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    **kwargs,
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """``softmax(Q K^T + mask) V``: Transformers' "eager" or "sdpa", the faster one.

    PyTorch's fused kernel for CPUs is made for long queries. For one token, or for
    a sentence in bfloat16, two batched products are up to 15 times faster; figures
    in docs/benchmarks.md. Elsewhere, and on other devices, the fused kernel serves.

    Arguments
    ---------
    module : torch.nn.Module
        Transformers' ``WhisperAttention``.
    query : torch.Tensor
        Shape (batch, heads, queries, width of a head).
    key, value : torch.Tensor
        Shape (batch, heads, keys, width of a head).
    attention_mask : torch.Tensor
        True where a query may attend to a key, shape broadcast to (batch, heads,
        queries, keys). Default: everywhere, or causal if the module says so.
    **kwargs
        As Transformers passes them ("scaling", "dropout", ...).

    Returns
    -------
    torch.Tensor
        Shape (batch, queries, heads, width of a head).
    torch.Tensor or None
        The weights, if matrix products made them.

    Example
    -------
    >>> module = torch.nn.Module()
    >>> module.is_causal, module.is_decoder = True, True
    >>> q, k, v = torch.rand(3, 1, 2, 1, 4).unbind()
    >>> found, _ = attention(module, q, k, v, None, scaling=0.5)
    >>> bool((found == v.transpose(1, 2)).all())
    True
    """
    if not (kwargs.get("output_attentions") or _prefers_products(module, query)):
        return sdpa_attention_forward(
            module, query, key, value, attention_mask, **kwargs
        )
    queries, keys = query.shape[2], key.shape[2]
    if attention_mask is None and module.is_causal and queries > 1:
        allowed = torch.ones(queries, keys, dtype=torch.bool, device=query.device)
        attention_mask = allowed.tril(keys - queries)
    if attention_mask is not None:
        attention_mask = additive_mask(attention_mask, query)
    return eager_attention_forward(module, query, key, value, attention_mask, **kwargs)


def additive_mask(allowed: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """What is added to scores: 0 where attention is allowed, else minus infinity.

    Example
    -------
    >>> additive_mask(torch.tensor([True, False]), torch.ones(1))
    tensor([0., -inf])
    """
    return like.new_zeros(allowed.shape).masked_fill_(~allowed, -torch.inf)


def _prefers_products(module, query) -> bool:
    if query.device.type != "cpu":
        return False
    return query.shape[2] == 1 or (module.is_decoder and query.dtype != torch.float32)


AttentionInterface.register(ATTENTION, attention)
AttentionMaskInterface.register(ATTENTION, sdpa_mask)
