"""What an adapter file may ask for: methods, settings and sizes, from fixed lists."""

import re
from dataclasses import fields

from speechbrain_sumra.adapter_file import AdapterFileError
from speechbrain_sumra.peft_adapters import import_peft

# PEFT's methods that add a few matrices or vectors to each layer, with their settings
# that name no model, module, file or further layer. Others of PEFT's methods load
# models, read files or change more than the layers.
LORA = (
    "r lora_alpha lora_dropout use_rslora use_dora init_lora_weights lora_bias "
    "corda_config lora_ga_config rank_pattern alpha_pattern"
)
PEFT_SETTINGS = {
    "AdaLora": f"{LORA} init_r target_r tinit tfinal deltaT beta1 beta2 "
    "orth_reg_weight",
    "BOFT": "boft_block_size boft_block_num boft_n_butterfly_factor boft_dropout",
    "Beft": "",
    "C3A": "block_size",
    "Deft": "r alpha decomposition_method init_scale para deft_dropout",
    "Delora": "r delora_lambda module_dropout",
    "FourierFT": "n_frequency scaling random_loc_seed",
    "HRA": "r apply_GS",
    "Hira": "r hira_dropout",
    "IA3": "init_ia3_weights feedforward_modules",
    "LoHa": "r alpha rank_dropout module_dropout rank_pattern alpha_pattern",
    "LoKr": "r alpha rank_dropout module_dropout decompose_both decompose_factor "
    "rank_pattern alpha_pattern",
    "Lora": LORA,
    "Miss": "r mini_r miss_dropout",
    "RandLora": "r projection_prng_key save_projection randlora_alpha sparse "
    "very_sparse randlora_dropout",
    "Road": "variant group_size",
    "Vera": "r projection_prng_key save_projection d_initial vera_dropout",
}
EVERY = "frozen row_norm init_weights"  # settings of all of them
# Settings that memory is taken for; none is larger than the widest layer.
SIZES = ("r", "rank", "init_r", "target_r", "projection_size")
# Of those that are options in turn: these, and nothing that names a file.
OPTIONS = {
    "corda_config": {"corda_method", "use_float16_for_covariance"},
    "lora_ga_config": {"direction", "scale", "stable_gamma"},
}
STARTS = r"gaussian|orthogonal|olora|corda|lora_ga|mica|pissa(_niter_\d{1,2})?"
LARGEST_SEED = 2**63


def check_settings(metadata: dict) -> None:
    """Whether a file asks PEFT for nothing but a method, and numbers of it.

    Arguments
    ---------
    metadata : dict
        What ``read_metadata`` returned, of one of PEFT's methods.

    Raises
    ------
    AdapterFileError
        If the method or a setting is none of those that a file may name.

    Example
    -------
    >>> check_settings({"method": "Shadow", "settings": []})
    Traceback (most recent call last):
        ...
    speechbrain_sumra.adapter_file.AdapterFileError: its method 'Shadow' is none that a file may name. If you trust it, build the model by its experiment file and use load_adapter.
    """  # noqa: E501
    method = metadata["method"]
    advice = (
        "If you trust it, build the model by its experiment file and use load_adapter."
    )
    if method not in PEFT_SETTINGS:
        raise AdapterFileError(
            f"its method {method[:40]!r} is none that a file may name. {advice}"
        )
    known = f"{PEFT_SETTINGS[method]} {EVERY}".split()
    config = getattr(import_peft(), f"{method}Config")
    defaults = {field.name: field.default for field in fields(config)}
    for name in metadata["settings"]:
        value = metadata[name]
        is_default = name in defaults and value == defaults[name]
        if not is_default and (name not in known or not _is_harmless(name, value)):
            raise AdapterFileError(
                f"its setting {name[:40]}={str(metadata[name])[:40]!r} of {method} is "
                f"none that a file may have. {advice}"
            )
    seed = metadata.get("seed", 0)
    if type(seed) is not int or not 0 <= seed < LARGEST_SEED:
        raise AdapterFileError(
            f"its seed is {str(seed)[:40]}: expected a whole number from 0 to 2^63 - 1."
        )


def _is_harmless(name: str, value) -> bool:
    if name in OPTIONS:
        return isinstance(value, dict) and value.keys() <= OPTIONS[name]
    if name == "feedforward_modules":
        return isinstance(value, list) and all(map(_is_name, value))
    if name.endswith("_pattern"):
        # PEFT takes the keys for regular expressions, which may take for ever.
        return isinstance(value, dict) and all(map(_is_name, value))
    if name == "init_lora_weights" and isinstance(value, str):
        return re.fullmatch(STARTS, value.lower()) is not None
    return True


def _is_name(value) -> bool:
    return isinstance(value, str) and re.fullmatch(r"[\w.]*", value) is not None


def check_sizes(metadata: dict, widest: int) -> None:
    """Whether a file's ranks are some, before memory is taken for them.

    Arguments
    ---------
    metadata : dict
        What ``read_metadata`` returned.
    widest : int
        The largest that a rank can be.

    Raises
    ------
    AdapterFileError
        If a rank is no whole number from 1 to that.

    Example
    -------
    >>> check_sizes({"settings": ["r"], "r": 10**6}, widest=512)
    Traceback (most recent call last):
        ...
    speechbrain_sumra.adapter_file.AdapterFileError: its r is 1000000: expected a whole number from 1 to 512, as wide as its tensors and the base model's layers.
    """  # noqa: E501
    sizes = {name: metadata[name] for name in metadata["settings"] if name in SIZES}
    if "rank_pattern" in metadata["settings"]:
        sizes |= metadata["rank_pattern"] or {}
    for name, size in sizes.items():
        if type(size) is not int or not 0 < size <= widest:
            raise AdapterFileError(
                f"its {name[:40]} is {str(size)[:20]}: expected a whole number from 1 "
                f"to {widest}, as wide as its tensors and the base model's layers."
            )
