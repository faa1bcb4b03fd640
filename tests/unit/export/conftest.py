"""Tiny adapted models of every method, none of whose parts is as it was made."""

import shutil

import pytest
import torch
from speechbrain.nnet.adapters import LoRA

from speechbrain_sumra import SORSA, SumRA
from speechbrain_sumra.adalora import AdaLora
from speechbrain_sumra.adapted import AdaptedWhisper, trained_tensors
from speechbrain_sumra.peft_adapters import PeftAdapters
from speechbrain_sumra.whisper import Whisper


def lora(**settings):
    return PeftAdapters, {"config": "LoraConfig", "r": 4, "lora_alpha": 6, **settings}


METHODS = {
    "SumRA": (SumRA, {"rank": 4, "alpha": 6}),
    "SORSA": (SORSA, {"rank": 4}),
    "LoRA of SpeechBrain": (LoRA, {"rank": 4, "alpha": 2.0}),
    "LoRA": lora(),
    "LoRA, rank-stabilized": lora(use_rslora=True),
    "LoRA-FA": lora(frozen=["*.lora_A.*"]),
    "DoRA": lora(use_dora=True),
    "PiSSA": lora(init_lora_weights="pissa"),
    "PiSSA with DoRA": lora(init_lora_weights="pissa", use_dora=True),
    "CorDA": lora(init_lora_weights="corda", corda_config={"corda_method": "ipm"}),
    "VeRA": (PeftAdapters, {"config": "VeraConfig", "r": 4}),
    "AdaLoRA": (AdaLora, {"init_r": 6, "target_r": 4, "tinit": 0.2, "tfinal": 0.3}),
    "MiSS": (PeftAdapters, {"config": "MissConfig", "r": 4}),
    "fine-tuning": (None, {}),
}
NEW = {"language": "new", "locale": "hsb"}


@pytest.fixture(scope="session")
def tiny_base(tiny_whisper, whisper_base, tmp_path_factory):
    """The tiny Whisper with a generation config, as published models have one."""
    folder = tmp_path_factory.mktemp("tiny-base") / "tiny"
    shutil.copytree(tiny_whisper, folder)
    shutil.copy(whisper_base / "generation_config.json", folder)
    return folder


@pytest.fixture
def adapted(tiny_base, tmp_path):
    """Builds a model that is adapted by a method, every trained number changed."""

    def build(method="SumRA", base=NEW, encoder_layers=0, **settings):
        if method != "LoRA of SpeechBrain" and method not in ("SumRA", "SORSA"):
            pytest.importorskip("peft", reason="needs [baselines]")
        adapter_class, kwargs = METHODS[method]
        base = {**base, "adapted_encoder_layers": encoder_layers}
        whisper = Whisper(tiny_base, tmp_path / "pretrained", **base)
        if adapter_class is None:
            settings["unfrozen_layers"] = ["model.decoder"]
        model = AdaptedWhisper(
            whisper, adapter_class, kwargs, tmp_path / "basis", **settings
        )
        if model.awaits_data:
            states = torch.randn(1, 40, 16)
            tokens = torch.tensor([whisper.prompt + [*range(1000, 1040)]])
            model.calibrate(tmp_path / "start", lambda: whisper(None, tokens, states))
        perturb(model)
        return model.eval().requires_grad_(False)

    return build


@torch.no_grad()
def perturb(model):
    generator = torch.Generator().manual_seed(3)
    for parameter in trained_tensors(model).values():
        noise = torch.randn(parameter.shape, generator=generator)
        parameter.add_(0.1 * noise.to(parameter))


@pytest.fixture
def same_logits():
    """Compares a model with what Transformers or PEFT loaded, in its own prompt."""

    @torch.no_grad()
    def compare(model, loaded, code, tolerance=1e-4):
        generator = torch.Generator().manual_seed(1)
        wav = torch.randn(2, 16000, generator=generator)
        text = torch.randint(300, 40000, (2, 9), generator=generator)
        prompt = torch.tensor([model.prompt, model.prompt])
        states = model.encode(wav, "full")
        ours = model(None, torch.cat([prompt, text], dim=1), states)[1]
        token = model.tokenizer.convert_tokens_to_ids(f"<|{code}|>")
        prompt[:, 1] = token if code else prompt[:, 1]
        theirs = loaded(
            input_features=model._get_mel(wav),
            decoder_input_ids=torch.cat([prompt, text], dim=1),
        ).logits
        if code:  # its row is tied to the output projection there
            theirs[..., token] = ours[..., token]
        assert ours.abs().max() > 0.1
        torch.testing.assert_close(theirs, ours, rtol=0, atol=tolerance)

    return compare
