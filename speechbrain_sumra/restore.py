"""From an adapter file alone to the method, and to the model that it was saved of."""

from pathlib import Path

from speechbrain.nnet.adapters import HoulsbyAdapterLinear, LoRA
from torch import nn

from speechbrain_sumra.adalora import AdaLora
from speechbrain_sumra.adapted import AdaptedWhisper
from speechbrain_sumra.adapter_file import (
    BASIS,
    AdapterFileError,
    load_adapter,
    read_adapter,
)
from speechbrain_sumra.adapters import SORSA, SumRA
from speechbrain_sumra.basis import BasisError
from speechbrain_sumra.file_settings import check_settings, check_sizes
from speechbrain_sumra.layer_adapters import LayerAdapters
from speechbrain_sumra.method import AdaptationMethod
from speechbrain_sumra.peft_adapters import PeftAdapters
from speechbrain_sumra.whisper import Whisper

# A file chooses among these; it can name no other class.
ADAPTERS = {
    adapter.__name__: adapter for adapter in (SumRA, SORSA, LoRA, HoulsbyAdapterLinear)
}


def method_of(metadata: dict) -> AdaptationMethod | None:
    """The method of adaptation that an adapter file names, with its settings.

    Arguments
    ---------
    metadata : dict
        What ``read_metadata`` returned.

    Returns
    -------
    AdaptationMethod
        None for full fine-tuning, which has none.

    Raises
    ------
    AdapterFileError
        If it is none of the methods that a file may name, or does not take these
        settings.

    Example
    -------
    >>> settings = {"rank": 4, "strategy": "block"}
    >>> method_of({"method": "SumRA", "settings": list(settings), **settings}).settings
    {'rank': 4, 'alpha': 4, 'strategy': 'block', 'row_norm': 'raw', 'train_down_proj': False}
    """  # noqa: E501
    name = metadata["method"]
    if name is None:
        return None
    settings = {key: metadata[key] for key in metadata["settings"]}
    try:
        if name in ADAPTERS:
            return LayerAdapters(ADAPTERS[name], **settings)
        check_settings(metadata)
        if "seed" in metadata:
            settings["seed"] = metadata["seed"]
        if name == "AdaLora":
            return AdaLora(**settings)
        return PeftAdapters(f"{name}Config", **settings)
    except AdapterFileError:
        raise
    except (TypeError, ValueError, AttributeError, KeyError) as error:
        raise AdapterFileError(
            f"its method {name} cannot be used with the settings that it names: {error}"
        ) from error


def load_adapted(
    path: str | Path,
    whisper: str | None = None,
    pretrained_folder: str | Path = "runs/pretrained",
    basis_folder: str | Path = "runs/basis",
) -> tuple[AdaptedWhisper, dict]:
    """The model that an adapter file was saved of, of any method.

    Arguments
    ---------
    path : str or Path
        A file written by ``save_adapter``.
    whisper : str
        The base model: a hub name or a folder. Default: the one that the file
        names.
    pretrained_folder : str or Path
        Where downloads and conversions of base models are kept.
    basis_folder : str or Path
        Where bases are kept; one that is missing is computed.

    Returns
    -------
    model : AdaptedWhisper
        Frozen, for inference.
    metadata : dict
        The file's.

    Raises
    ------
    AdapterFileError
        If the file is damaged, belongs to another base model, or asks for what a
        file may not ask for.
    """
    metadata, tensors = read_adapter(path)
    source = whisper or metadata.get("base_model")
    if source is None:
        raise AdapterFileError(f"{path} names no base model: name one.")
    base = Whisper(
        source,
        str(pretrained_folder),
        metadata["language"],
        metadata.get("locale"),
        encoder_context=metadata["encoder_context"] or "full",
        adapted_encoder_layers=metadata["adapted_encoder_layers"],
    )
    # Before anything is computed from the wrong weights.
    if base.base_fingerprint != metadata["base_fingerprint"]:
        raise AdapterFileError(
            f"{path} was trained on another base model than {source}: base "
            f"fingerprint {metadata['base_fingerprint'][:12]}, here "
            f"{base.base_fingerprint[:12]}. Name the base model that it was "
            "trained on."
        )
    modules = {name.rsplit(".", 1)[0] for name in tensors if not name.startswith(BASIS)}
    # Trained as they are: neither adapters nor what these are put around.
    whole = {name for name, _ in base.named_modules()} - set(metadata["layers"])
    try:
        method = method_of(metadata)
        check_sizes(metadata, _widest(base, metadata, tensors))
        model = AdaptedWhisper(
            base,
            method,
            basis_folder=basis_folder,
            train_norms=any(name.endswith("layer_norm") for name in modules),
            target_layers=metadata["layers"],
            unfrozen_layers=sorted(modules & whole),
        )
    except (TypeError, ValueError, AttributeError, ArithmeticError) as error:
        if isinstance(error, BasisError):
            raise
        raise AdapterFileError(
            f"{path}: no model can be built as it says: {error}"
        ) from error
    load_adapter(path, model)
    return model.eval().requires_grad_(False), metadata


def _widest(base: Whisper, metadata: dict, tensors: dict) -> int:
    """The largest rank that tensors and layers have room for; VeRA's may be larger."""
    sizes = [max(t.shape, default=0) for t in tensors.values() if t.numel()]
    if metadata["method"] == "Vera":
        return max(sizes, default=0)
    layers = set(metadata["layers"])
    widths = [
        max(module.weight.shape)
        for name, module in base.named_modules()
        if name in layers and isinstance(module, nn.Linear)
    ]
    return min(max(widths, default=0), max(sizes, default=0))
