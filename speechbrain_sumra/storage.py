"""How the numbers of an adapter file are stored: fp32, fp16 or int8."""

import torch

STORAGES = ("fp32", "fp16", "int8")
SCALE = ":scale"  # ends the name of an int8 tensor's scales


def encode(tensors: dict[str, torch.Tensor], storage: str) -> dict[str, torch.Tensor]:
    """Tensors as a file holds them.

    "int8" stores a matrix (n x m) as ``round(W / c)`` with one float32 scale a
    row, ``c = max |W| / 127``; vectors, of which there are few numbers, as fp16.

    Arguments
    ---------
    tensors : dict of str to torch.Tensor
        By name, floating point.
    storage : str
        "fp32", "fp16" or "int8".

    Returns
    -------
    dict of str to torch.Tensor
        Contiguous; with "int8" also the scales, by name + ":scale".

    Raises
    ------
    ValueError
        If the storage is none of these, or a number is too large for it.

    Example
    -------
    >>> stored = encode({"b": torch.tensor([[1.0, -0.5], [0.0, 0.0]])}, "int8")
    >>> stored["b"].tolist()
    [[127, -64], [0, 0]]
    >>> decode(stored)["b"].round(decimals=2).tolist()
    [[1.0, -0.5], [0.0, 0.0]]
    """
    if storage not in STORAGES:
        raise ValueError(
            f"Unknown storage {storage!r}; expected one of {', '.join(STORAGES)}."
        )
    stored = {}
    for name, value in tensors.items():
        value = value.float().contiguous()
        if storage == "int8" and value.ndim == 2:
            scale = value.abs().amax(dim=1) / 127
            divisor = scale.masked_fill(scale == 0, 1.0)[:, None]
            stored[name] = (value / divisor).round().to(torch.int8)
            stored[name + SCALE] = scale
        elif storage == "fp32":
            stored[name] = value
        else:
            stored[name] = value.half()
            if stored[name].isinf().sum() > value.isinf().sum():
                raise ValueError(
                    f"{name} has values up to {value.abs().max():.3g}, too large for "
                    f"fp16 (65504): store it as fp32."
                )
    return stored


def decode(stored: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """What ``encode`` was given, as float32, rounded as the storage does.

    Arguments
    ---------
    stored : dict of str to torch.Tensor
        What a file holds. Tensors of other types than ``encode`` writes are
        returned as they are.
    """
    tensors = {}
    for name, value in stored.items():
        if name.endswith(SCALE) and name.removesuffix(SCALE) in stored:
            continue
        if value.dtype == torch.int8 and name + SCALE in stored:
            scale = stored[name + SCALE]
            if value.ndim == 2 and scale.shape == value.shape[:1]:
                value = value.float() * scale[:, None]
        elif value.dtype == torch.float16:
            value = value.float()
        tensors[name] = value
    return tensors
