"""Exports of an adapted whisper-base, read by the software they are for."""

import csv
import json

import pytest
import torch
from transformers import (
    WhisperForConditionalGeneration,
    WhisperProcessor,
    pipeline,
)

from speechbrain_sumra import SumRA
from speechbrain_sumra.adapted import AdaptedWhisper, trained_tensors
from speechbrain_sumra.data import read_audio
from speechbrain_sumra.export import (
    export_ctranslate2,
    export_huggingface,
    export_peft,
)
from speechbrain_sumra.whisper import Whisper
from speechbrain_sumra.whisper.decoding import GreedySearcher

pytestmark = pytest.mark.real
CODE = "la"
MAX_TOKENS = 60  # more than any of these clips has


@pytest.fixture(scope="module")
def clips(real_speech):
    """The first clips of the Upper Sorbian test set."""
    with open(real_speech / "hsb" / "test.tsv", encoding="utf-8", newline="") as file:
        rows = csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
        names = [next(rows)["path"] for _ in range(3)]
    return [read_audio(str(real_speech / "hsb" / "clips" / name)) for name in names]


@pytest.fixture(scope="module")
def model(whisper_base, tmp_path_factory):
    """SumRA on whisper-base; B, norms and language row moved at random."""
    folder = tmp_path_factory.mktemp("adapted")
    whisper = Whisper(whisper_base, folder / "pretrained", "new", locale="hsb")
    model = AdaptedWhisper(whisper, SumRA, {"rank": 8}, folder / "basis")
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in trained_tensors(model).items():
            scale = 0.001 if name.endswith("up_proj.weight") else 0.005
            noise = torch.randn(parameter.shape, generator=generator)
            parameter.add_(scale * noise)
    return model.eval().requires_grad_(False)


@torch.no_grad()
def texts_of(model, clips):
    """Texts of our own greedy decoding, one clip at a time."""
    searcher = GreedySearcher(model, MAX_TOKENS)
    hypotheses = [searcher(model.encode(wav[None]))[0] for wav in clips]
    return [model.tokenizer.decode(tokens).strip() for tokens in hypotheses]


@pytest.fixture(scope="module")
def texts(model, clips, whisper_base, tmp_path_factory):
    texts = texts_of(model, clips)
    unadapted = Whisper(whisper_base, tmp_path_factory.mktemp("plain"), CODE)
    assert all(len(text.split()) > 3 for text in texts)
    assert texts[0] != texts_of(unadapted.eval(), clips[:1])[0]
    return texts


@pytest.fixture(scope="module")
def huggingface_folder(model, tmp_path_factory):
    return export_huggingface(model, tmp_path_factory.mktemp("exported") / "hf")


@pytest.fixture(scope="module")
def transformers_model(huggingface_folder):
    return WhisperForConditionalGeneration.from_pretrained(huggingface_folder).eval()


@pytest.fixture(scope="module")
def features(clips, huggingface_folder):
    processor = WhisperProcessor.from_pretrained(huggingface_folder)
    waves = [wav.numpy() for wav in clips]
    return processor(waves, sampling_rate=16000, return_tensors="pt").input_features


def generate(model, features, tokenizer, **settings):
    tokens = model.generate(
        features, num_beams=1, do_sample=False, max_new_tokens=MAX_TOKENS, **settings
    )
    texts = tokenizer.batch_decode(tokens, skip_special_tokens=True)
    return [text.strip() for text in texts]


def test_transformers_generates_our_texts(model, transformers_model, features, texts):
    assert generate(transformers_model, features, model.tokenizer) == texts


def test_a_pipeline_gives_our_texts(huggingface_folder, clips, texts):
    recognizer = pipeline(
        "automatic-speech-recognition",
        str(huggingface_folder),
        # Its default for all models is five beams.
        generate_kwargs={"num_beams": 1, "max_new_tokens": MAX_TOKENS},
    )
    results = recognizer([wav.numpy() for wav in clips])
    assert [result["text"].strip() for result in results] == texts


@torch.no_grad()
def test_the_tied_token_is_never_near_being_written(
    model, transformers_model, features, texts
):
    token = model.tokenizer.convert_tokens_to_ids(f"<|{CODE}|>")
    output = transformers_model.generate(
        features,
        max_new_tokens=MAX_TOKENS,
        suppress_tokens=None,
        output_logits=True,
        return_dict_in_generate=True,
    )
    logits = torch.stack(output.logits)
    assert len(logits) > 5
    margin = logits.amax(dim=-1) - logits[..., token]
    assert margin.min() > 2


@torch.no_grad()
def test_peft_gives_our_logits_on_the_untouched_base(
    model, whisper_base, clips, texts, features, tmp_path
):
    peft = pytest.importorskip("peft", reason="needs [export]")
    export_peft(model, tmp_path / "peft")
    base = WhisperForConditionalGeneration.from_pretrained(whisper_base)
    loaded = peft.PeftModel.from_pretrained(base, tmp_path / "peft").eval()
    token = model.tokenizer.convert_tokens_to_ids(f"<|{CODE}|>")
    for wav, text, feature in zip(clips, texts, features, strict=True):
        tokens = model.tokenizer.encode(f" {text}", add_special_tokens=False)
        ours = torch.tensor([model.prompt + tokens])
        theirs = ours.clone()
        theirs[0, 1] = token
        expected = model(wav[None], ours)[1]
        logits = loaded(input_features=feature[None], decoder_input_ids=theirs).logits
        logits[..., token] = expected[..., token]
        torch.testing.assert_close(logits, expected, rtol=0, atol=5e-3)
    settings = {"language": CODE, "task": "transcribe"}
    assert generate(loaded, features, model.tokenizer, **settings) == texts


@pytest.fixture(scope="module")
def ctranslate2_folder(model, tmp_path_factory):
    pytest.importorskip("ctranslate2", reason="needs [export]")
    return export_ctranslate2(model, tmp_path_factory.mktemp("exported") / "ct2")


def test_ctranslate2_gives_our_texts(model, ctranslate2_folder, features, texts):
    import ctranslate2

    engine = ctranslate2.models.Whisper(
        str(ctranslate2_folder), "cpu", compute_type="float32"
    )
    prompt = ["<|startoftranscript|>", f"<|{CODE}|>"]
    prompt += ["<|transcribe|>", "<|notimestamps|>"]
    storage = ctranslate2.StorageView.from_array(features.numpy())
    results = engine.generate(storage, [prompt] * len(texts), beam_size=1)
    found = [model.tokenizer.decode(result.sequences_ids[0]) for result in results]
    assert [text.strip() for text in found] == texts
    config = json.loads((ctranslate2_folder / "config.json").read_text())
    assert (
        model.tokenizer.convert_tokens_to_ids(f"<|{CODE}|>") in config["suppress_ids"]
    )
    assert len(config["lang_ids"]) == 99


def test_faster_whisper_gives_our_texts(ctranslate2_folder, clips, texts):
    faster_whisper = pytest.importorskip("faster_whisper", reason="needs [export]")
    engine = faster_whisper.WhisperModel(
        str(ctranslate2_folder), "cpu", compute_type="float32", cpu_threads=1
    )
    found = []
    for wav in clips:
        # Whisper pads the audio with silence; faster-whisper pads the features with
        # zeros, which stand for no silence, and the texts are others.
        wav = torch.nn.functional.pad(wav, (0, 30 * 16000 - len(wav)))
        segments, info = engine.transcribe(
            wav.numpy(),
            language=CODE,
            beam_size=1,
            temperature=0.0,
            without_timestamps=True,
            vad_filter=False,
            # A model moved at random is unsure of itself.
            compression_ratio_threshold=None,
            log_prob_threshold=None,
            no_speech_threshold=None,
        )
        found.append(" ".join(segment.text.strip() for segment in segments))
        assert info.language == CODE
    assert found == texts
