"""Greedy decoding of the same clips: ours, SpeechBrain's searcher, Transformers'."""

import csv
import statistics
import time
from pathlib import Path

import torch
from speechbrain.decoders.seq2seq import S2SWhisperGreedySearcher
from speechbrain.integrations.huggingface.whisper import Whisper as StockWhisper
from tqdm import tqdm
from transformers import WhisperForConditionalGeneration, WhisperProcessor

from speechbrain_sumra.data import read_audio
from speechbrain_sumra.features import EncoderStates
from speechbrain_sumra.precision import choose_precision, precision_dtype
from speechbrain_sumra.whisper import Whisper
from speechbrain_sumra.whisper.decoding import GreedySearcher

LANGUAGE = "polish"
MAX_TOKENS = 60
BATCH = 16
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def measure_decoding(
    whisper: str, manifest: Path, data_folder: str, work: Path, clips: int, repeats: int
) -> dict:
    """Seconds of audio transcribed a second, encoder included, contenders in turn.

    Unadapted Whisper, batches of 16 of like length, no more than 60 tokens. The
    stock ways compute in float32, as they do unless told otherwise; ours does with
    the same 30 s of context ("ours-full-fp32") and with its defaults ("ours").

    Arguments
    ---------
    whisper : str
        Hugging Face folder of the base model.
    manifest : Path
        CSV of the clips, as the recipe writes it.
    data_folder : str
        Replaces ``$data_root`` in it.
    work : Path
        For conversions.
    clips : int
        How many of its clips.
    repeats : int
        Runs of each contender, of which the median counts.

    Returns
    -------
    dict
        By contender "audio_seconds_per_second", and "same_text": the share of clips
        whose hypothesis equals Transformers'. (SpeechBrain's features depend on the
        batch, so its hypotheses do.)
    """
    with open(manifest, encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))[:clips]
    rows.sort(key=lambda row: float(row["duration"]), reverse=True)
    paths = [row["wav"].replace("$data_root", str(data_folder)) for row in rows]
    audio = sum(float(row["duration"]) for row in rows)
    precision = choose_precision("auto", DEVICE)
    contenders = {
        "speechbrain": _speechbrain(whisper, work),
        "transformers": _transformers(whisper),
        "ours-full-fp32": _ours(whisper, work, "full", "fp32"),
        "ours": _ours(whisper, work, "clip", precision),
    }
    seconds = {name: [] for name in contenders}
    texts = {}
    jobs = [name for _ in range(repeats) for name in contenders]
    for name in tqdm(jobs, desc="Decoding", unit="run"):
        start = time.perf_counter()
        texts[name] = [
            text
            for first in range(0, len(paths), BATCH)
            for text in contenders[name](paths[first : first + BATCH])
        ]
        seconds[name].append(time.perf_counter() - start)
    return {
        name: {
            "audio_seconds_per_second": round(audio / statistics.median(values), 3),
            "same_text": sum(
                mine.strip() == theirs.strip()
                for mine, theirs in zip(texts[name], texts["transformers"], strict=True)
            )
            / len(paths),
        }
        for name, values in seconds.items()
    }


def _padded(paths):
    audio = [read_audio(path) for path in paths]
    return torch.nn.utils.rnn.pad_sequence(audio, batch_first=True).to(DEVICE)


def _speechbrain(whisper, work):
    model = StockWhisper(whisper, str(work), language=LANGUAGE).to(DEVICE).eval()
    searcher = S2SWhisperGreedySearcher(
        model, min_decode_ratio=0.0, max_decode_ratio=MAX_TOKENS / 1500
    )

    @torch.no_grad()
    def transcribe(paths):
        states = model.forward_encoder(model._get_mel(_padded(paths)))
        hypotheses, *_ = searcher(states, torch.ones(len(paths), device=DEVICE))
        return model.tokenizer.batch_decode(hypotheses, skip_special_tokens=True)

    return transcribe


def _transformers(whisper):
    model = WhisperForConditionalGeneration.from_pretrained(whisper).to(DEVICE).eval()
    processor = WhisperProcessor.from_pretrained(whisper)

    @torch.no_grad()
    def transcribe(paths):
        audio = [read_audio(path).numpy() for path in paths]
        features = processor.feature_extractor(
            audio, sampling_rate=16000, return_tensors="pt"
        ).input_features.to(DEVICE)
        tokens = model.generate(
            features,
            language=LANGUAGE,
            task="transcribe",
            max_new_tokens=MAX_TOKENS,
            num_beams=1,
            do_sample=False,
        )
        return processor.batch_decode(tokens, skip_special_tokens=True)

    return transcribe


def _ours(whisper, work, context, precision):
    model = Whisper(whisper, str(work), LANGUAGE, encoder_context=context)
    model = model.to(DEVICE).eval()
    encode = EncoderStates("off", precision=precision)
    searcher = GreedySearcher(model, MAX_TOKENS)
    dtype = precision_dtype(precision)

    def transcribe(paths):
        with torch.autocast(DEVICE, dtype, enabled=dtype != torch.float32):
            hypotheses = searcher(*encode(paths, model))
        return model.tokenizer.batch_decode(hypotheses, skip_special_tokens=True)

    return transcribe
