"""A bank of ten thousand languages, of which a thousand are in use."""

import statistics
import time
from pathlib import Path

import psutil
import torch
from bank_throughput import TOKENS, make_bank
from random_languages import write_languages
from tqdm import tqdm

RANK = 2  # small files: what is measured is their number


def measure_growth(
    whisper: str, clips: list[torch.Tensor], work: Path, adapters: int, in_use: int
) -> dict:
    """Add many, use some of them in mixed batches, and look at time and memory.

    Arguments
    ---------
    whisper : str
        Hugging Face folder of the base model.
    clips : list of torch.Tensor
        Waveforms of a batch.
    work : Path
        For the files, rank 2 in fp16: 0.2 MB each for whisper-base.
    adapters, in_use : int
        How many are on disk; how many of them are used.

    Returns
    -------
    dict
        Figures by name, with units.
    """
    files = write_languages(whisper, work, RANK, adapters, "fp16")
    process = psutil.Process()
    bank = make_bank(whisper, work, files[:1], "fp32", max_resident=in_use)
    states = [bank.encode(clip, bank.locales[0]) for clip in clips]
    lengths = torch.tensor([len(state) for state in states])
    padded = torch.nn.utils.rnn.pad_sequence(states, batch_first=True).float()

    def decode(names):
        start = time.perf_counter()
        bank.decode(padded, lengths, names)
        return time.perf_counter() - start

    few = [bank.locales[0]] * (len(clips) - 1) + [None]
    decode(few)
    before = statistics.median(decode(few) for _ in range(3))
    memory = process.memory_info().rss
    start = time.perf_counter()
    for file in tqdm(files, desc="Adding", unit="file"):
        bank.add(file.stem, file)
    adding = time.perf_counter() - start
    after_adding = process.memory_info().rss
    names = bank.locales[:: max(1, adapters // in_use)][:in_use]
    batches = [names[i : i + len(clips)] for i in range(0, in_use, len(clips))]
    batches = [batch for batch in batches if len(batch) == len(clips)]
    first = [decode(batch) for batch in tqdm(batches, desc="First use", unit="batch")]
    after_use = process.memory_info().rss
    again = [decode(batch) for batch in tqdm(batches[:10], desc="Again", unit="batch")]
    tokens = len(clips) * TOKENS
    return {
        "adapters on disk": adapters,
        "in use": len(bank.resident),
        "ms to add one": round(1000 * adding / adapters, 3),
        "kB of memory for each added": round(
            (after_adding - memory) / adapters / 1e3, 2
        ),
        "kB for each in use": round((after_use - after_adding) / len(names) / 1e3, 1),
        "tokens/s with one language": round(tokens / before, 1),
        "tokens/s on first use": round(tokens / statistics.median(first), 1),
        "tokens/s again": round(tokens / statistics.median(again), 1),
    }
