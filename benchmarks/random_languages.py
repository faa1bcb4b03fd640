"""Languages of random numbers: speed and size do not depend on what was learnt."""

from pathlib import Path

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import WhisperForConditionalGeneration

from speechbrain_sumra import SumRA
from speechbrain_sumra.adapted import AdaptedWhisper, trained_tensors
from speechbrain_sumra.adapter_file import save_adapter
from speechbrain_sumra.whisper import Whisper

SPREAD = 0.01
NORMS = ("self_attn_layer_norm", "encoder_attn_layer_norm", "final_layer_norm")


def adapted_whisper(whisper: str, work: Path, rank: int) -> AdaptedWhisper:
    """SumRA on a base model, on the basis that all languages of a bank share."""
    base = Whisper(whisper, str(work), "new", locale="xx", encoder_context="clip")
    model = AdaptedWhisper(base, SumRA, {"rank": rank}, work / "basis")
    return model.eval().requires_grad_(True)


def draw_language(model: AdaptedWhisper, seed: int) -> None:
    """Give the trained parameters of a model random values."""
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in _trained(model).items():
        noise = SPREAD * torch.randn(parameter.shape, generator=generator)
        parameter.data = 1 + noise if name.endswith("norm.weight") else noise


def _trained(model):
    kinds = ("adapter_up_proj.weight", "layer_norm.weight", "layer_norm.bias")
    return {
        name: parameter
        for name, parameter in trained_tensors(model).items()
        if name.startswith("model.decoder") and name.endswith(kinds)
    }


def write_languages(
    whisper: str, work: Path, rank: int, number: int, storage: str = "fp32"
) -> list[Path]:
    """Adapter files of so many languages; those that are there are kept."""
    folder = work / f"languages_r{rank}_{storage}"
    paths = [folder / f"{i:05d}.safetensors" for i in range(number)]
    if not all(path.exists() for path in paths):
        model = adapted_whisper(whisper, work, rank)
        names = _trained(model).keys() | {"model.decoder.embed_tokens.new_token.weight"}
        for name, parameter in model.adapted_model.named_parameters():
            parameter.requires_grad_(name in names)
        for seed, path in enumerate(paths):
            draw_language(model, seed)
            save_adapter(path, model, storage, locale=path.stem, base_model=whisper)
    return paths


def peft_model(whisper: str, rank: int, number: int) -> PeftModel:
    """PEFT's LoRA on the same layers and norms, so many adapters in one model.

    Norms are of the first adapter alone: PEFT does not mix ``modules_to_save`` in a
    batch.
    """
    model = WhisperForConditionalGeneration.from_pretrained(whisper).eval()
    target = r".*decoder\.layers\.\d+\..*(_proj|fc1|fc2)"
    norms = [
        name
        for name, _ in model.named_modules()
        if "decoder" in name and name.endswith((*NORMS, "decoder.layer_norm"))
    ]
    first = LoraConfig(
        r=rank, lora_alpha=rank, target_modules=target, modules_to_save=norms
    )
    plain = LoraConfig(r=rank, lora_alpha=rank, target_modules=target)
    model = get_peft_model(model, first if number == 1 else plain, "0")
    for i in range(1, number):
        model.add_adapter(str(i), plain)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter.data, std=SPREAD)
    return model.eval()
