"""Short names for weights: of a base model, and of the A's made from it."""

import hashlib
import math
from collections.abc import Mapping

import torch
from torch import nn

PROBE_DECIMALS = 3


def fingerprint_weights(model: nn.Module) -> str:
    """SHA-256 of all parameters of a model, by name, as float32.

    The same weights stored as float16 or bfloat16 have the same fingerprint.

    Arguments
    ---------
    model : torch.nn.Module
        The base model, before anything is inserted.

    Returns
    -------
    str
        64 hexadecimal digits.

    Example
    -------
    >>> layer = nn.Linear(2, 2)
    >>> fingerprint_weights(layer) == fingerprint_weights(nn.Linear(2, 2))
    False
    """
    digest = hashlib.sha256()
    for name, value in sorted(model.named_parameters()):
        digest.update(f"{name}{tuple(value.shape)}".encode())
        value = value.detach().to(device="cpu", dtype=torch.float32)
        digest.update(value.contiguous().numpy())
    return digest.hexdigest()


def fingerprint_rows(matrices: Mapping[str, torch.Tensor]) -> str:
    """SHA-256 of what the rows of a basis do to a fixed vector, to three decimals.

    Hashing the entries themselves would tie the fingerprint to the last bit
    of one machine's SVD.  Each row's product with a fixed probe, relative to
    the row's length, differs between machines by about 1e-9 and changes by
    about 1 if a sign, an index set or a weight changes.

    Arguments
    ---------
    matrices : mapping of str to torch.Tensor
        Matrices by name, e.g. each layer's A (r x k). Other shapes are read
        as rows along their last dimension.

    Returns
    -------
    str
        64 hexadecimal digits.

    Example
    -------
    >>> a = {"layer": torch.tensor([[3.0, 4.0], [-4.0, 3.0]])}
    >>> fingerprint_rows(a) == fingerprint_rows({"layer": a["layer"] + 1e-7})
    True
    >>> fingerprint_rows(a) == fingerprint_rows({"layer": -a["layer"]})
    False
    """
    digest = hashlib.sha256()
    for name, matrix in sorted(matrices.items()):
        rows = matrix.detach().to(device="cpu", dtype=torch.float64)
        rows = rows.reshape(-1, rows.shape[-1])
        steps = torch.arange(1, rows.shape[1] + 1, dtype=torch.float64)
        # Squares make the angles spread like random ones, on every machine.
        probe = torch.cos(math.sqrt(2.0) * steps.square())
        lengths = rows.norm(dim=1).clamp_min(torch.finfo(torch.float64).tiny)
        response = (rows @ probe / lengths).round(decimals=PROBE_DECIMALS) + 0.0
        text = " ".join(f"{value:.{PROBE_DECIMALS}f}" for value in response)
        digest.update(f"{name}{tuple(matrix.shape)}{text}".encode())
    return digest.hexdigest()
