"""Which precision to multiply in, and weights that are kept in it."""

import torch
from speechbrain.utils.autocast import AMPConfig
from torch import nn


def choose_precision(name: str, device: str | torch.device) -> str:
    """The precision that "auto" stands for on a device.

    bfloat16 where the hardware multiplies in it: on GPUs from Ampere on and on CPUs
    with AVX512-BF16 or AMX; else float32. (On a CPU of the first kind a training
    step took 0.6 of the time; on others PyTorch emulates it, which is slower.)

    Arguments
    ---------
    name : str
        "auto", or what SpeechBrain takes: "fp32", "bf16", "fp16".
    device : str or torch.device
        Where the model is.

    Returns
    -------
    str
        "fp32" or "bf16", or the name as it was.

    Example
    -------
    >>> choose_precision("fp16", "cpu")
    'fp16'
    >>> choose_precision("auto", "cpu") in ("fp32", "bf16")
    True
    """
    if name != "auto":
        return name
    if torch.device(device).type == "cuda":
        fast = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        # PyTorch before 2.10 does not say, nor is bfloat16 worth it there.
        supported = getattr(torch.cpu, "get_capabilities", dict)()
        fast = supported.get("avx512_bf16") or supported.get("amx_bf16")
    return "bf16" if fast else "fp32"


def precision_dtype(name: str) -> torch.dtype:
    """The data type of a precision.

    Example
    -------
    >>> precision_dtype("bf16")
    torch.bfloat16
    """
    return AMPConfig.from_name(name).dtype


def keep_frozen_linears_in(model: nn.Module, dtype: torch.dtype) -> None:
    """Store the weights of frozen linear layers in the precision of autocast.

    Autocast converts frozen weights anew in every forward pass. The result is the
    same to the bit; outside autocast of this type the layers cannot be used. Those of
    which DoRA takes the norm, outside of any product, stay as they are.

    Arguments
    ---------
    model : torch.nn.Module
        Its ``nn.Linear`` layers without a trained parameter are changed.
    dtype : torch.dtype
        E.g. ``torch.bfloat16``.

    Example
    -------
    >>> layers = nn.Sequential(nn.Linear(2, 2).requires_grad_(False), nn.Linear(2, 2))
    >>> keep_frozen_linears_in(layers, torch.bfloat16)
    >>> [layer.weight.dtype for layer in layers]
    [torch.bfloat16, torch.float32]
    """
    normed = {
        layer
        for parent in model.modules()
        if len(getattr(parent, "lora_magnitude_vector", ()))
        for layer in parent.modules()
    }
    for module in model.modules():
        if (
            isinstance(module, nn.Linear)
            and module not in normed
            and not any(parameter.requires_grad for parameter in module.parameters())
        ):
            module.to(dtype)
