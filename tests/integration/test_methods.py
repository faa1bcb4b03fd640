"""Every shipped experiment trains what it says, and its file gives it back."""

import re
import shutil
from pathlib import Path

import pytest
import torch
from common_voice_prepare import prepare_common_voice
from recipe import ROOT, run_here
from torch import nn
from train import train_and_score

from speechbrain_sumra.adapted import trained_tensors
from speechbrain_sumra.adapter_file import load_adapter, save_adapter
from speechbrain_sumra.data import load_datasets
from speechbrain_sumra.training.brain import ASR
from speechbrain_sumra.training.hparams import load_hparams, merge_overrides

EXPERIMENTS = sorted(path.stem for path in (ROOT / "hparams").glob("*_whisper_*.yaml"))
LORA = {"lora_A.default.weight", "lora_B.default.weight"}
# What each method trains in each of the ten linear layers of a decoder layer.
TRAINED = {
    "adalora": {"lora_A.default", "lora_B.default", "lora_E.default"},
    "corda": LORA,
    "dora": LORA | {"lora_magnitude_vector.default.weight"},
    "ft": {"weight", "bias"},
    "lora": LORA,
    "lora_fa": {"lora_B.default.weight"},
    "lora_plus": LORA,
    "model_average": {"adapter_up_proj.weight"},
    "pissa": LORA,
    "sorsa": {
        "adapter_down_proj.weight",
        "adapter_scale",
        "adapter_up_proj.weight",
    },
    "sumra": {"adapter_up_proj.weight"},
    "sumra_train_a": {"adapter_down_proj.weight", "adapter_up_proj.weight"},
    "unadapted": set(),
    "vera": {"vera_lambda_b.default", "vera_lambda_d.default"},
}


# Experiments that the documentation shows, and what they train.
SHOWN = re.findall(
    r"```yaml\n(.+?)```", (ROOT / "docs" / "methods.md").read_text("utf-8"), re.DOTALL
)
TRAINED_BY_SHOWN = {"miss": {"miss_block.default"}, "olora": LORA, "lora_ga": LORA}


@pytest.fixture(scope="module")
def manifests(synthetic_corpus, tmp_path_factory):
    folder = tmp_path_factory.mktemp("manifests")
    manifests = prepare_common_voice(
        synthetic_corpus, folder, "eo", durations_file=folder / "durations.csv"
    )
    del manifests["report"]
    return manifests


@pytest.fixture
def build(tiny_whisper, tmp_path):
    def load(path, **changes):
        settings = {
            "whisper_hub": str(tiny_whisper),
            "locale": "eo",
            "runs_folder": str(tmp_path / "runs"),
            "rank": 4,
            "alpha": 4.0,
            "number_of_epochs": 1,
            "validations_per_epoch": 1,
            "batch_size": 6,
            "max_tokens": 7,
            "num_workers": 0,
            "models_to_average": 1,
            "precision": "fp32",
        }
        overrides = merge_overrides("", **{**settings, **changes})
        return load_hparams(path, overrides)

    return load


def train(hparams, manifests, data_folder):
    """Two steps on twelve clips, and a validation."""
    datasets, _ = load_datasets(manifests, data_folder, hparams["whisper_pretrained"])
    Path(hparams["output_folder"]).mkdir(parents=True, exist_ok=True)
    brain = ASR(
        modules=hparams["modules"],
        opt_class=hparams["opt_class"],
        hparams=hparams,
        run_opts={"device": "cpu", "noprogressbar": True},
        checkpointer=hparams["checkpointer"],
    )
    train_and_score(brain, datasets)
    assert brain.optimizer_step == 2


def expected_names(parts, model):
    if not model.replace_layers:  # full fine-tuning
        decoder = model.adapted_model.model.decoder
        return {f"model.decoder.{name}" for name, _ in decoder.named_parameters()}
    linears = {f"{name}.{part}" for name in model.replace_layers for part in parts}
    norms = {
        f"{name}.{part}"
        for name, module in model.adapted_model.named_modules()
        if isinstance(module, nn.LayerNorm) and name.startswith("model.decoder.")
        for part in ("weight", "bias")
    }
    assert len(norms) == 2 * (2 * 3 + 1)
    return linears | norms | {"model.decoder.embed_tokens.new_token.weight"}


def logits(model):
    torch.manual_seed(3)
    tokens = torch.tensor([model.prompt + [400, 500]])
    with torch.no_grad():
        return model.eval()(torch.randn(1, 16000), tokens)[1]


def check_two_steps(path, parts, build, manifests, data_folder, tmp_path):
    hparams = build(path)
    model = hparams["whisper"]
    start = None if model.awaits_data else logits(model)
    train(hparams, manifests, data_folder)
    trained = trained_tensors(model)
    assert set(trained) == expected_names(parts, model)
    if start is not None:
        assert not torch.equal(logits(model), start)

    # Its file restores it on another machine, where nothing but the base is.
    file = tmp_path / "adapter.safetensors"
    save_adapter(file, model)
    expected = logits(model)
    for parameter in model.parameters():
        parameter.data += 1.0
    fresh = build(path, basis_folder=str(tmp_path / "elsewhere"))["whisper"]
    load_adapter(file, fresh)
    assert torch.equal(logits(fresh), expected)


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_shipped_experiments(experiment, build, manifests, synthetic_corpus, tmp_path):
    method = experiment.split("_whisper_")[0]
    path = ROOT / "hparams" / f"{experiment}.yaml"
    if method == "unadapted":
        assert not trained_tensors(build(path)["whisper"])
        return
    parts = TRAINED[method]
    check_two_steps(path, parts, build, manifests, synthetic_corpus, tmp_path)


@pytest.mark.parametrize("text", SHOWN, ids=lambda text: text.split()[1])
def test_documented_experiments(text, build, manifests, synthetic_corpus, tmp_path):
    method = re.search(r"experiment: (.+)_whisper_base", text)[1]
    path = shutil.copytree(ROOT / "hparams", tmp_path / "hparams") / "own.yaml"
    path.write_text(text)
    parts = TRAINED_BY_SHOWN[method]
    check_two_steps(path, parts, build, manifests, synthetic_corpus, tmp_path)


@pytest.mark.parametrize("method", sorted(TRAINED))
def test_sizes_differ_in_the_model_alone(method):
    kinds = ("base", "small", "large_v2")
    files = [ROOT / "hparams" / f"{method}_whisper_{kind}.yaml" for kind in kinds]
    texts = {
        path.read_text().split("\n", 1)[1].replace(f"whisper_{kind}", "whisper_SIZE")
        for path, kind in zip(files, kinds, strict=True)
    }
    assert len(texts) == 1 and len(texts.pop().splitlines()) == 2


def test_every_experiment_has_a_method_here():
    assert {name.split("_whisper_")[0] for name in EXPERIMENTS} == set(TRAINED)
    assert len(SHOWN) == len(TRAINED_BY_SHOWN) == 3


def test_model_average(monkeypatch, tiny_whisper, synthetic_corpus, tmp_path):
    summary = run_here(
        monkeypatch,
        "model_average",
        whisper_hub=tiny_whisper,
        data_folder=synthetic_corpus,
        runs_folder=tmp_path / "runs",
        output_folder=tmp_path / "run",
        rank=3,
        models_to_average=2,
        number_of_epochs=1,
        validations_per_epoch=1,
        max_tokens=7,
    )
    assert summary["adapter"]["rank"] == 6
    assert summary["adapter"]["strategy"] == "slice:0"
    assert (tmp_path / "run" / "slice_1" / "summary.json").exists()
    assert (tmp_path / "run" / "adapter.safetensors").exists()
