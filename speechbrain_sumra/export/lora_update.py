"""What an adapter adds to its layer, as the two matrices of a LoRA."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from speechbrain.nnet.adapters import LoRA
from torch import nn

from speechbrain_sumra.adapters import SORSA, SumRA
from speechbrain_sumra.peft_adapters import ADAPTER


@dataclass(frozen=True)
class LoraUpdate:
    """``W = W0 + scaling * up @ down``, to be scaled to row lengths if DoRA.

    Attributes
    ----------
    down : torch.Tensor
        A, shape (r, k).
    up : torch.Tensor
        B, shape (d, r).
    scaling : float
        alpha / r.
    magnitude : torch.Tensor
        DoRA's length of each row of W, shape (d,); None without DoRA.
    """

    down: torch.Tensor
    up: torch.Tensor
    scaling: float
    magnitude: torch.Tensor | None = None


@torch.no_grad()
def low_rank_update(layer: nn.Module, basis: Mapping[str, torch.Tensor]) -> LoraUpdate:
    """The update of the *base* weight that an adapted layer stands for.

    Methods that take their first adapter out of the base weight (PiSSA, SORSA, ...)
    compute ``W0 - s B0 A0 + s B A``: as a LoRA of twice the rank, ``[B, -B0]`` and
    ``[A; A0]``.

    Arguments
    ---------
    layer : torch.nn.Module
        An adapted layer.
    basis : mapping of str to torch.Tensor
        What the basis holds for this layer, without the layer's name.

    Raises
    ------
    ValueError
        If the update is no product of two small matrices.

    Example
    -------
    >>> layer = SumRA(nn.Linear(6, 4), rank=2)
    >>> update = low_rank_update(layer, {})
    >>> update.up.shape, update.down.shape, update.scaling
    (torch.Size([4, 2]), torch.Size([2, 6]), 1.0)
    """
    update = _trained_update(layer)
    if "initial.lora_A" in basis:
        first_down, first_up = basis["initial.lora_A"], basis["initial.lora_B"]
    elif "left" in basis:
        first_down, first_up = basis["right"], basis["left"] * basis["values"]
    else:
        return update
    device = update.down.device
    return LoraUpdate(
        torch.cat([update.down, first_down.to(device)]),
        torch.cat([update.up, -first_up.to(device)], dim=1),
        update.scaling,
        update.magnitude,
    )


def _trained_update(layer: nn.Module) -> LoraUpdate:
    """What the adapter adds to the weight that is left inside it."""
    if isinstance(layer, SORSA):
        up = layer.adapter_up_proj.weight * layer.adapter_scale
        return LoraUpdate(layer.adapter_down_proj.weight, up, 1.0)
    if isinstance(layer, (SumRA, LoRA)):
        down, up = layer.adapter_down_proj.weight, layer.adapter_up_proj.weight
        return LoraUpdate(down, up, layer.scaling)
    if hasattr(layer, "vera_lambda_b"):
        out_features, in_features = layer.get_base_layer().weight.shape
        down = layer.vera_A[ADAPTER][:, :in_features]
        up = layer.vera_B[ADAPTER][:out_features]
        down = layer.vera_lambda_d[ADAPTER][:, None] * down
        return LoraUpdate(down, layer.vera_lambda_b[ADAPTER][:, None] * up, 1.0)
    if hasattr(layer, "lora_E"):  # AdaLoRA
        down = layer.lora_E[ADAPTER] * layer.lora_A[ADAPTER]
        rank = float(layer.ranknum[ADAPTER]) + 1e-5
        return LoraUpdate(down, layer.lora_B[ADAPTER], layer.scaling[ADAPTER] / rank)
    if hasattr(layer, "lora_A"):
        down, up = layer.lora_A[ADAPTER].weight, layer.lora_B[ADAPTER].weight
        dora = ADAPTER in layer.lora_magnitude_vector
        magnitude = layer.lora_magnitude_vector[ADAPTER].weight if dora else None
        return LoraUpdate(down, up, layer.scaling[ADAPTER], magnitude)
    raise ValueError(
        f"What a layer of {type(layer).__name__} adds is not known as a product of "
        "two small matrices, as LoRA's adapters are. Export the merged model "
        "instead: export_huggingface."
    )
