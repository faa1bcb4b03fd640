"""Decoding batches in many languages: a Bank, a merged model, PEFT."""

import statistics
import time
from pathlib import Path

import torch
from random_languages import peft_model, write_languages
from tqdm import tqdm
from transformers.modeling_outputs import BaseModelOutput

from speechbrain_sumra.bank import Bank
from speechbrain_sumra.features import encode_utterance
from speechbrain_sumra.precision import (
    choose_precision,
    keep_frozen_linears_in,
    precision_dtype,
)
from speechbrain_sumra.restore import load_adapted
from speechbrain_sumra.whisper.decoding import GreedySearcher

TOKENS = 40
MIXTURES = (1, 2, 4, 8, 16)
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def measure_throughput(
    whisper: str, clips: list[torch.Tensor], work: Path, rank: int, repeats: int
) -> dict:
    """Tokens a second of greedy decoding, the encoder left out, contenders in turn.

    All decode 40 tokens a clip from the same encoder states; no row may end before.
    PEFT computes in float32 alone and is given the same states.

    Arguments
    ---------
    whisper : str
        Hugging Face folder of the base model.
    clips : list of torch.Tensor
        16 waveforms at 16 kHz.
    work : Path
        For what is made on the way.
    rank : int
        Of all adapters.
    repeats : int
        Runs of each contender, of which the median counts.

    Returns
    -------
    dict
        By precision and contender: tokens a second.
    """
    files = write_languages(whisper, work, rank, len(clips))
    precisions = dict.fromkeys(("fp32", choose_precision("auto", DEVICE)))
    return {
        name: _measure(whisper, clips, work, files, name, repeats, rank)
        for name in precisions
    }


def _measure(whisper, clips, work, files, precision, repeats, rank):
    bank = make_bank(whisper, work, files, precision)
    states = [encode_utterance(bank.whisper, clip, precision, "clip") for clip in clips]
    lengths = torch.tensor([len(state) for state in states], device=DEVICE)
    states = torch.nn.utils.rnn.pad_sequence(states, batch_first=True).float()
    number = len(clips)

    def of_bank(mixture):
        chosen = [bank.locales[i % mixture] for i in range(number)]
        return lambda: bank.decode(states, lengths, chosen)

    contenders = {
        "merged": _merged(files[0], work, whisper, states, lengths, precision)
    }
    contenders |= {f"bank, {n} language{'s' * (n > 1)}": of_bank(n) for n in MIXTURES}
    if precision == "fp32":
        model = peft_model(whisper, rank, max(MIXTURES)).to(DEVICE)
        contenders |= {
            f"peft, {n} language{'s' * (n > 1)}": _peft(model, states, n)
            for n in MIXTURES
        }
    seconds = {name: [] for name in contenders}
    jobs = [name for _ in range(repeats) for name in contenders]
    for name in contenders:  # what is loaded or compiled on first use
        contenders[name]()
    for name in tqdm(jobs, desc=f"Decoding, {precision}", unit="run"):
        start = time.perf_counter()
        contenders[name]()
        seconds[name].append(time.perf_counter() - start)
    return {
        name: round(number * TOKENS / statistics.median(values), 1)
        for name, values in seconds.items()
    }


def make_bank(whisper: str, work: Path, files: list[Path], precision: str, **settings):
    """A bank of some files, whose hypotheses never end early."""
    bank = Bank(
        whisper,
        work,
        work / "basis",
        precision=precision,
        device=DEVICE,
        max_tokens=TOKENS,
        stop_repetition=False,
        **settings,
    )
    _never_end(bank._searcher)
    for file in tqdm(files, desc="Adding", unit="file", disable=len(files) < 100):
        bank.add(file.stem, file)
    return bank


def _never_end(searcher: GreedySearcher) -> None:
    searcher._suppressed = [*searcher._suppressed, searcher.model.eos]


def _merged(file, work, whisper, states, lengths, precision):
    model, _ = load_adapted(file, whisper, work, work / "basis")
    model.merge()
    model.to(DEVICE)
    dtype = precision_dtype(precision)
    low = dtype != torch.float32
    if low:
        keep_frozen_linears_in(model, dtype)
    searcher = GreedySearcher(model, TOKENS)
    _never_end(searcher)

    def decode():
        with torch.autocast(DEVICE, dtype, enabled=low):
            return searcher(states, lengths)

    return decode


def _peft(model, states, mixture):
    names = [str(i % mixture) for i in range(len(states))]

    def decode():
        found = model.generate(
            encoder_outputs=BaseModelOutput(last_hidden_state=states),
            adapter_names=names,
            language="polish",
            task="transcribe",
            min_new_tokens=TOKENS,
            max_new_tokens=TOKENS,
            num_beams=1,
            do_sample=False,
        )
        assert found.shape[0] == len(states) and found.shape[1] >= TOKENS, found.shape
        return found

    return decode


def measure_switching(whisper: str, work: Path, repeats: int) -> dict:
    """From one language to another, for the whole model.

    Returns
    -------
    dict
        Median milliseconds: "switch_ms" to a language in memory, "load_ms" to one on
        disk (in the page cache), "basis_and_base_s": what is not loaded again.
    """
    files = write_languages(whisper, work, 32, 16)
    start = time.perf_counter()
    bank = make_bank(whisper, work, files, "fp32", max_resident=8)
    started = time.perf_counter() - start
    bank.use(bank.locales[0])

    def seconds(names):
        found = []
        for name in names:
            start = time.perf_counter()
            bank.use(name)
            found.append(time.perf_counter() - start)
        return 1000 * statistics.median(found)

    seconds(bank.locales)  # slots are made on first use
    load = seconds(bank.locales * repeats)  # 16 in turn: never one of the last 8
    seconds(bank.locales[:4])
    switch = seconds(bank.locales[:4] * repeats)
    return {
        "switch_ms": round(switch, 4),
        "load_ms": round(load, 2),
        "start_seconds": round(started, 2),
    }
