"""A LoRA adapter in PEFT's format, to be put into the untouched base model."""

from pathlib import Path

import torch
from torch import nn
from transformers import WhisperForConditionalGeneration

from speechbrain_sumra.adapted import AdaptedWhisper
from speechbrain_sumra.export.extras import import_extra
from speechbrain_sumra.export.folder import new_folder, write_record
from speechbrain_sumra.export.language import required_code
from speechbrain_sumra.export.lora_update import LoraUpdate, low_rank_update
from speechbrain_sumra.export.to_huggingface import warn_of_context
from speechbrain_sumra.peft_adapters import ADAPTER
from speechbrain_sumra.pretrained import split_revision

EMBEDDING = "model.decoder.embed_tokens"
PREFIX = "base_model.model."
NORMS = ("modules_to_save", "refuse")
TOLERANCE = 1e-3  # of logits, relative to the largest; rounding is below 1e-4


def export_peft(
    model: AdaptedWhisper,
    folder: str | Path,
    as_language: str | None = None,
    norms: str = "modules_to_save",
    metadata: dict | None = None,
) -> Path:
    """Write a LoRA adapter that ``peft.PeftModel.from_pretrained`` loads.

    ``lora_A`` and ``lora_B`` are the method's A and B, ``lora_alpha / r`` its
    scaling; trained norms are ``modules_to_save``, and the row of a new language
    token is the trained one of ``as_language`` (``trainable_token_indices``).
    Methods that take their first adapter out of the base weight get twice the
    rank; see ``low_rank_update``.  The adapter's logits are compared with the
    model's before anything is written.

    Arguments
    ---------
    model : AdaptedWhisper
        A model with adapters, not merged.
    folder : str or Path
        A folder that is new or empty.
    as_language : str
        As for ``export_huggingface``.
    norms : str
        "modules_to_save" (default), or "refuse" for software that takes nothing
        but ``lora_A`` and ``lora_B``.
    metadata : dict
        Of the adapter file, for the model card.

    Returns
    -------
    Path
        The folder.

    Raises
    ------
    MissingExtraError
        If PEFT is not installed.
    FileExistsError
        If the folder is not empty.
    ValueError
        If a setting is unusable, or PEFT's LoRA cannot hold what was trained.
    """
    if norms not in NORMS:
        raise ValueError(f"Unknown norms {norms!r}; expected {' or '.join(NORMS)}.")
    peft = import_extra("peft")
    code = required_code(model, as_language, "users of PEFT's adapters")
    updates = _updates(model)
    warn_of_context(model)
    base = WhisperForConditionalGeneration.from_pretrained(
        model.config.name_or_path, dtype=torch.float32
    ).eval()
    changed = _changed_norms(model, base)
    if changed and norms == "refuse":
        raise ValueError(
            f"{len(changed)} layer norms were trained, which an adapter of lora_A "
            "and lora_B cannot hold. Train with train_norms: False, or export with "
            'norms="modules_to_save".'
        )
    config, state = _lora(peft, updates)
    for name in changed:
        for part, value in model.adapted_model.get_submodule(name).state_dict().items():
            state[f"{PREFIX}{name}.{part}"] = value
    config.modules_to_save = changed or None
    if model.language_setting == "new":
        config.trainable_token_indices = {EMBEDDING: [model.language_ids[code]]}
        row = model.model.decoder.embed_tokens.new_token.weight
        state[f"{PREFIX}{EMBEDDING}.token_adapter.trainable_tokens_delta"] = row
    adapted = peft.get_peft_model(base, config).eval()
    peft.set_peft_model_state_dict(
        adapted, {name: value.detach().cpu() for name, value in state.items()}
    )
    _check_same(model, adapted, code)
    config = adapted.peft_config[ADAPTER]
    config.base_model_name_or_path, config.revision = split_revision(model.source)
    with new_folder(folder) as new:
        # Otherwise PEFT asks the hub for the size of the base model's vocabulary.
        adapted.save_pretrained(new, save_embedding_layers=False)
        (new / "README.md").unlink()  # PEFT's, of headings without text
        write_record(new, model, "peft", code, metadata)
    return Path(folder)


def _updates(model: AdaptedWhisper) -> dict[str, LoraUpdate]:
    """The update of each adapted layer, by the layer's name."""
    if model.adapters is None:
        raise ValueError(
            "The model has no adapters: whatever was trained is the decoder itself, "
            "which a LoRA cannot hold. Export the merged model instead: "
            "export_huggingface."
        )
    updates = {}
    for name in model.replace_layers:
        layer, prefix = model.adapted_model.get_submodule(name), f"{name}."
        if type(layer) is nn.Linear:
            raise ValueError("The adapters are merged: unmerge() first.")
        own = {
            key.removeprefix(prefix): tensor
            for key, tensor in model.basis.tensors.items()
            if key.startswith(prefix)
        }
        updates[name] = low_rank_update(layer, own)
    return updates


def _lora(peft, updates: dict[str, LoraUpdate]) -> tuple:
    """PEFT's configuration, and the weights by the names that it saves them by."""
    kinds = {
        (len(update.down), update.scaling, update.magnitude is not None)
        for update in updates.values()
    }
    if len(kinds) > 1:
        raise ValueError(
            "Layers have different ranks or scalings, which is not supported: "
            f"{sorted(kinds)}. Export the merged model instead: export_huggingface."
        )
    ((rank, scaling, dora),) = kinds
    alpha = scaling * rank
    config = peft.LoraConfig(
        r=rank,
        lora_alpha=int(alpha) if alpha.is_integer() else alpha,
        target_modules=list(updates),
        use_dora=dora,
    )
    state = {}
    for name, update in updates.items():
        state[f"{PREFIX}{name}.lora_A.weight"] = update.down
        state[f"{PREFIX}{name}.lora_B.weight"] = update.up
        if dora:
            state[f"{PREFIX}{name}.lora_magnitude_vector"] = update.magnitude
    return config, state


def _changed_norms(model: AdaptedWhisper, base: nn.Module) -> list[str]:
    """Names of the norms that are not the base model's; other changes are refused."""
    original = base.state_dict()
    adapted = tuple(f"{name}." for name in model.replace_layers)
    changed = set()
    for name, value in model.adapted_model.named_parameters():
        if name.startswith((*adapted, f"{EMBEDDING}.new_token.")):
            continue
        if not torch.equal(value.cpu(), original[name]):
            changed.add(name.rpartition(".")[0])
    others = [
        name
        for name in sorted(changed)
        if not isinstance(model.adapted_model.get_submodule(name), nn.LayerNorm)
    ]
    if others:
        raise ValueError(
            f"Trained beside adapters and norms: {', '.join(others[:3])}, which this "
            "export does not know. Export the merged model instead: "
            "export_huggingface."
        )
    return sorted(changed)


@torch.no_grad()
def _check_same(model: AdaptedWhisper, adapted: nn.Module, code: str | None) -> None:
    """Compare logits; one language token's are others, its row being tied."""
    device = next(model.parameters()).device
    generator = torch.Generator().manual_seed(0)
    wav = torch.randn(1, 16000, generator=generator).to(device)
    text = torch.randint(1000, (8,), generator=generator).tolist()
    ours, theirs = model.prompt + text, model.prompt + text
    ids = model.language_ids if code is not None else {}
    if code is not None:
        theirs[1] = ids[code]
    states = model.encode(wav, "full")
    expected = model(None, torch.tensor([ours], device=device), states)[1]
    logits = adapted(
        input_features=model._get_mel(wav).cpu(),
        decoder_input_ids=torch.tensor([theirs]),
    ).logits
    difference = (logits - expected.cpu()).abs()
    if model.language_setting == "new":
        difference[..., ids[code]] = 0.0
    largest = float(difference.max() / expected.abs().max())
    if not largest < TOLERANCE:
        raise ValueError(
            f"PEFT's LoRA does not compute what {model.adapters.name} does: logits "
            f"differ by {largest:.1e} of the largest. Export the merged model "
            "instead: export_huggingface."
        )
