"""Learning rates of an adapter's parts (LoRA+)."""

from collections.abc import Mapping
from fnmatch import fnmatch

import torch
from torch.optim import Optimizer

# Names as SpeechBrain's and PEFT's adapters have them.
UP_PROJECTIONS = ("*.adapter_up_proj.*", "*.lora_B.*")
DOWN_PROJECTIONS = ("*.adapter_down_proj.*", "*.lora_A.*")


def parameter_groups(
    parameters: Mapping[str, torch.Tensor], lora_plus_ratio: float = 1.0
) -> list[dict]:
    """Groups for an optimizer, in which B may learn faster than A.

    LoRA+ (Hayou et al., 2024): the learning rate of B is ``lora_plus_ratio``
    times that of A. All other parameters (norms, the language token) have
    that of A.

    Arguments
    ---------
    parameters : mapping of str to torch.Tensor
        The trained parameters by name.
    lora_plus_ratio : float
        1: one group with all of them.

    Returns
    -------
    list of dict
        Each with "params" and "lr_ratio".

    Raises
    ------
    ValueError
        If the ratio is not 1 and the method does not train both an A and a B.

    Example
    -------
    >>> a, b = torch.zeros(2, 4), torch.zeros(6, 2)
    >>> names = {"fc1.lora_A.default.weight": a, "fc1.lora_B.default.weight": b}
    >>> [group["lr_ratio"] for group in parameter_groups(names, 16)]
    [1.0, 16]
    """
    if lora_plus_ratio == 1.0:
        return [{"params": list(parameters.values()), "lr_ratio": 1.0}]
    up = [p for name, p in parameters.items() if _matches(name, UP_PROJECTIONS)]
    if not up or not any(_matches(name, DOWN_PROJECTIONS) for name in parameters):
        raise ValueError(
            f"lora_plus_ratio={lora_plus_ratio} is for methods that train two "
            "matrices, A and B; this one does not. Leave it at 1."
        )
    rest = [p for name, p in parameters.items() if not _matches(name, UP_PROJECTIONS)]
    return [
        {"params": rest, "lr_ratio": 1.0},
        {"params": up, "lr_ratio": lora_plus_ratio},
    ]


def set_learning_rate(optimizer: Optimizer, learning_rate: float) -> None:
    """Set each group's learning rate to its ratio times this one.

    Arguments
    ---------
    optimizer : torch.optim.Optimizer
        Made with ``parameter_groups``.
    learning_rate : float
        The learning rate of a group with ratio 1.

    Example
    -------
    >>> groups = [{"params": [torch.zeros(1)], "lr_ratio": 16}]
    >>> optimizer = torch.optim.AdamW(groups)
    >>> set_learning_rate(optimizer, 0.5)
    >>> optimizer.param_groups[0]["lr"]
    8.0
    """
    for group in optimizer.param_groups:
        group["lr"] = learning_rate * group["lr_ratio"]


def _matches(name: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatch(name, pattern) for pattern in patterns)
