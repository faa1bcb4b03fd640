"""Adapter files of made-up languages, on a tiny or a real Whisper."""

import torch

from speechbrain_sumra import SumRA
from speechbrain_sumra.adapted import AdaptedWhisper, trained_tensors
from speechbrain_sumra.adapter_file import save_adapter
from speechbrain_sumra.bank import Bank
from speechbrain_sumra.peft_adapters import PeftAdapters
from speechbrain_sumra.whisper import Whisper

TOKENS = 12  # of the longest hypothesis of a bank


class Languages:
    """Makes adapted models and their files in one folder.

    Arguments
    ---------
    folder : Path
        For files, conversions and bases.
    source : Path
        The base model.
    std : float
        How far trained parameters are from where they start.
    """

    def __init__(self, folder, source, std=0.2):
        self.folder, self.source, self.std = folder, source, std
        self.places = {
            "pretrained_folder": folder / "pretrained",
            "basis_folder": folder / "basis",
        }

    def bank(self, **settings):
        """A bank of the base model, without any language."""
        return Bank(self.source, **self.places, max_tokens=TOKENS, **settings)

    def model(
        self,
        draw,
        method=SumRA,
        language="new",
        context="full",
        encoder_layers=0,
        locale="xx",
        **settings,
    ):
        """An adapted model, its trained parameters moved at random."""
        whole = {
            "train_norms",
            "target_layers",
            "unfrozen_layers",
            "linears",
        } & settings.keys()
        whole = {name: settings.pop(name) for name in whole}
        if method is PeftAdapters:
            settings = {"config": "LoraConfig", "r": 4, "lora_alpha": 6, **settings}
        elif method is SumRA:
            settings = {"rank": 4, **settings}
        base = Whisper(
            self.source,
            self.places["pretrained_folder"],
            language,
            locale=locale,
            encoder_context=context,
            adapted_encoder_layers=encoder_layers,
        )
        model = AdaptedWhisper(
            base, method, settings, self.places["basis_folder"], **whole
        )
        generator = torch.Generator().manual_seed(draw)
        for name, parameter in trained_tensors(model).items():
            noise = torch.randn(parameter.shape, generator=generator)
            far = 1.0 if "new_token" in name else self.std
            parameter.data += far * noise
        return model.eval()

    def save(self, name, model, storage="fp32", **facts):
        """The adapter file of a model."""
        path = self.folder / f"{name}.safetensors"
        facts = {"locale": name, "base_model": str(self.source), **facts}
        save_adapter(path, model, storage, **facts)
        return path

    def make(self, name, draw, **settings):
        """An adapter file of a new model."""
        return self.save(name, self.model(draw, **settings))
