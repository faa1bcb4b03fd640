"""From manifests to batches: audio, tokens, and eighths of an epoch."""

import math
from collections.abc import Iterator, Sequence

import torch
from speechbrain.dataio.dataset import (
    DynamicItemDataset,
    add_dynamic_item,
    set_output_keys,
)
from speechbrain.utils.data_pipeline import provides, takes
from speechbrain.utils.logger import get_logger
from torch.utils.data import Sampler

from speechbrain_sumra.audio.audio_file import open_audio
from speechbrain_sumra.audio.resampling import resampler
from speechbrain_sumra.whisper import Whisper

logger = get_logger(__name__)

IGNORED = -100  # a target on which no loss is computed
MAX_SECONDS = 30.0  # what Whisper reads at once
BLOCK = 2**17  # samples that are decoded at a time


class EpochPartSampler(Sampler[int]):
    """One part of a shuffled epoch at a time, if wanted in batches of like length.

    ``Brain.fit`` validates once an epoch.  With this sampler each of its
    "epochs" is 1/parts of the data: true epoch e is one permutation, seeded
    by seed + e, cut into parts.  All parts have ceil(n / parts) items, as
    SpeechBrain's distributed sampler requires; where parts does not divide
    n, neighbouring parts share an item, so none is left out.

    With a ``window`` above 1, so many batches at a time are sorted by length
    and shuffled as batches: little padding, and an order that is less random.

    Arguments
    ---------
    lengths : sequence of float
        Length of each of the n items, in whatever unit.
    parts : int
        Parts per true epoch, 1 <= parts <= n.
    seed : int
        Seed of the permutations.
    batch_size : int
        Items that the data loader puts into one batch, on all processes
        together.
    window : int
        Batches among which items are sorted by length. 1: not sorted.

    Raises
    ------
    ValueError
        If the dataset is empty or has fewer items than parts.

    Example
    -------
    >>> sampler = EpochPartSampler([1.0, 4.0, 2.0, 3.0], parts=2, seed=0)
    >>> seen = []
    >>> for epoch in (1, 2):  # SpeechBrain counts epochs from 1
    ...     sampler.set_epoch(epoch)
    ...     seen += list(sampler)
    >>> sorted(seen)
    [0, 1, 2, 3]
    """

    def __init__(
        self,
        lengths: Sequence[float],
        parts: int,
        seed: int,
        batch_size: int = 1,
        window: int = 1,
    ):
        if not 1 <= parts <= len(lengths):
            raise ValueError(
                f"Cannot validate {parts} times an epoch on "
                f"{len(lengths)} training utterances: set "
                "--validations_per_epoch to at most their number."
            )
        self.lengths = lengths
        self.number = len(lengths)
        self.parts = parts
        self.seed = seed
        self.batch_size = batch_size
        self.window = window
        self.epoch = 1

    def set_epoch(self, epoch: int) -> None:
        """Choose the part: SpeechBrain's epoch, counted from 1."""
        self.epoch = epoch

    def __len__(self) -> int:
        return math.ceil(self.number / self.parts)

    def __iter__(self) -> Iterator[int]:
        true_epoch, part = divmod(self.epoch - 1, self.parts)
        generator = torch.Generator().manual_seed(self.seed + true_epoch)
        permutation = torch.randperm(self.number, generator=generator).tolist()
        start = part * self.number // self.parts
        items = [permutation[i % self.number] for i in range(start, start + len(self))]
        if self.window == 1:
            yield from items
            return
        generator.manual_seed(self.seed + self.epoch)
        size = self.batch_size
        for first in range(0, len(items), self.window * size):
            window = sorted(
                items[first : first + self.window * size],
                key=lambda i: self.lengths[i],
            )
            batches = [window[i : i + size] for i in range(0, len(window), size)]
            # A rest stays last: elsewhere it would shift the batches after it.
            full = [batch for batch in batches if len(batch) == size]
            rest = batches[len(full) :]
            order = torch.randperm(len(full), generator=generator).tolist()
            for batch in [*(full[i] for i in order), *rest]:
                yield from batch


def read_audio(path: str) -> torch.Tensor:
    """Read a file as mono audio at 16 kHz.

    Arguments
    ---------
    path : str
        An audio file, as ``open_audio`` reads it.

    Returns
    -------
    torch.Tensor
        Shape (samples,).

    Raises
    ------
    AudioError
        If it cannot be read to its end, or has samples that are no sound.
    """
    blocks = []
    with open_audio(path) as audio:
        while not audio.ended:
            blocks.append(torch.from_numpy(audio.read(BLOCK)))
    signal = torch.cat(blocks)
    return resampler(audio.rate)(signal)


def load_datasets(
    manifests: dict[str, str], data_folder: str, whisper: Whisper
) -> tuple[dict[str, DynamicItemDataset], dict[str, dict[str, int]]]:
    """The datasets of some splits, with their tokens.

    Items have ``id``, ``wav`` (the path: audio is read where its encoder states
    are not at hand), ``tokens_bos`` (decoder input: prompt and text),
    ``tokens_eos`` (targets: ignored within the prompt, then text and end) and
    ``wrd`` (the reference).

    Utterances that cannot be trained on or scored are left out and counted:
    those over 30 s, those whose transcript is longer than the decoder, and
    those of which Whisper's normaliser leaves no word.

    Arguments
    ---------
    manifests : dict of str to str
        Path of each split's CSV manifest.
    data_folder : str
        Replaces ``$data_root`` in the manifests.
    whisper : Whisper
        Gives tokenizer and prompt.

    Returns
    -------
    datasets : dict of str to DynamicItemDataset
        In order of duration, longest first.
    dropped : dict of str to dict
        Number of utterances left out by reason, for each split.

    Raises
    ------
    ValueError
        If a split has no utterance left.
    """
    tokenizer = whisper.tokenizer
    positions = whisper.config.max_target_positions

    def encode(text):
        # Whisper's own transcripts start with a space; without it, the first
        # word of a sentence would be made of other tokens than all others.
        return tokenizer.encode(f" {text}", add_special_tokens=False)

    def too_long(item):
        prompt = whisper.prompt_of(item["locale"])
        return len(prompt) + len(encode(item["wrd"])) > positions

    @takes("wrd", "locale")
    @provides("tokens_bos", "tokens_eos")
    def text_pipeline(wrd, locale):
        tokens, prompt = encode(wrd), whisper.prompt_of(locale)
        yield torch.tensor(prompt + tokens)
        yield torch.tensor([IGNORED] * (len(prompt) - 1) + tokens + [whisper.eos])

    datasets, dropped = {}, {}
    for split, path in manifests.items():
        data = DynamicItemDataset.from_csv(
            path, replacements={"data_root": data_folder}
        )
        reasons = {"over_30_s": 0, "transcript_too_long": 0, "no_words": 0}
        kept = {}
        for utterance, item in data.data.items():
            if item["duration"] > MAX_SECONDS:
                reasons["over_30_s"] += 1
            elif too_long(item):
                reasons["transcript_too_long"] += 1
            elif not tokenizer.basic_normalize(item["wrd"]).split():
                reasons["no_words"] += 1
            else:
                kept[utterance] = item
        if not kept:
            raise ValueError(
                f"{path} has no usable utterance: {len(data)} in the manifest, "
                f"left out: {reasons}."
            )
        if any(reasons.values()):
            logger.warning("%s: utterances left out: %s", split, reasons)
        by_duration = sorted(
            kept, key=lambda name: kept[name]["duration"], reverse=True
        )
        datasets[split] = DynamicItemDataset({name: kept[name] for name in by_duration})
        dropped[split] = reasons

    add_dynamic_item(list(datasets.values()), text_pipeline)
    set_output_keys(
        list(datasets.values()),
        ["id", "wav", "tokens_bos", "tokens_eos", "wrd"],
    )
    return datasets, dropped
