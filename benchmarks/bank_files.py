"""Bytes of a language on disk, and what storing less of it costs."""

from pathlib import Path

import jiwer
import torch
from random_languages import peft_model, write_languages
from tqdm import tqdm

from speechbrain_sumra.adapter_file import read_adapter, write_adapter
from speechbrain_sumra.bank import Bank
from speechbrain_sumra.data import read_audio
from speechbrain_sumra.storage import STORAGES

BATCH = 16
NUMBERS = (1, 100, 10_000)


def measure_files(whisper: str, work: Path, rank: int) -> dict:
    """Bytes of one language, and of many with what they share.

    PEFT's file is a LoRA of the same rank in float32 as PEFT itself saves it, on the
    same layers, with the same norms.

    Returns
    -------
    dict
        By storage, and "peft": "bytes" of a file, "shared_bytes" (A), and
        "<n>_languages": bytes of all files and A.
    """
    shared = sum(path.stat().st_size for path in (work / "basis").glob("*_SumRA_*"))
    found = {}
    for storage in STORAGES:
        (path,) = write_languages(whisper, work, rank, 1, storage)
        found[storage] = _facts(path.stat().st_size, shared)
    folder = work / "peft_lora"
    peft_model(whisper, rank, 1).save_pretrained(folder)
    size = sum(path.stat().st_size for path in folder.rglob("*.safetensors"))
    return {**found, "peft": _facts(size, 0)}


def _facts(size, shared):
    totals = {f"{n}_languages": shared + n * size for n in NUMBERS}
    return {"bytes": size, "shared_bytes": shared, **totals}


def measure_storage(whisper: str, adapter: str, rows: list[dict], work: Path) -> dict:
    """Test WER of a trained adapter, in percent, by storage.

    Arguments
    ---------
    whisper : str
        Hugging Face folder of the base model.
    adapter : str
        The trained adapter's file.
    rows : list of dict
        Rows of the test manifest, with "wav" and "wrd".
    work : Path
        For the files of each storage.
    """
    metadata, tensors = read_adapter(adapter)
    bank = Bank(whisper, work, work / "basis", precision="fp32")
    for storage in STORAGES:
        path = work / f"trained_{storage}.safetensors"
        write_adapter(path, metadata, tensors, storage)
        bank.add(storage, path)
    normalize = bank.whisper.tokenizer.basic_normalize
    references = [normalize(row["wrd"]) for row in rows]
    texts = {storage: [] for storage in STORAGES}
    for first in tqdm(range(0, len(rows), BATCH), desc="Scoring", unit="batch"):
        clips = [read_audio(row["wav"]) for row in rows[first : first + BATCH]]
        states = [bank.encode(clip, "fp32") for clip in clips]
        lengths = torch.tensor([len(state) for state in states])
        padded = torch.nn.utils.rnn.pad_sequence(states, batch_first=True).float()
        for storage in STORAGES:
            tokens = bank.decode(padded, lengths, [storage] * len(clips))
            decoded = bank.whisper.tokenizer.batch_decode(
                tokens, skip_special_tokens=True
            )
            texts[storage] += [normalize(text) for text in decoded]
    return {
        storage: round(100 * jiwer.wer(references, found), 4)
        for storage, found in texts.items()
    }
