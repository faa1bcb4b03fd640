"""Greedy decoding in batches, with a cache of keys and values."""

from collections.abc import Callable, Sequence
from functools import cached_property

import torch

from speechbrain_sumra.whisper import Whisper


class GreedySearcher:
    """Greedy decoding that gives each utterance what it would get alone.

    The hypotheses are those of SpeechBrain's ``S2SWhisperGreedySearcher``: the
    same tokens are suppressed, and the same limit holds.  What differs is the
    work: log-probabilities are not collected, an utterance that has ended
    leaves the batch, and padded encoder states are masked.

    Arguments
    ---------
    model : Whisper
        A Whisper of this package, adapted or not.
    max_tokens : int
        Longest hypothesis, in tokens.

    Example
    -------
    >>> GreedySearcher(model=None, max_tokens=0)
    Traceback (most recent call last):
        ...
    ValueError: max_tokens must be at least 1, got 0.
    """

    def __init__(self, model: Whisper, max_tokens: int = 150):
        if max_tokens < 1:
            raise ValueError(f"max_tokens must be at least 1, got {max_tokens}.")
        self.model = model
        self.max_tokens = max_tokens

    @cached_property
    def _suppressed(self) -> list[int]:
        """Tokens that a transcript never has."""
        model = self.model
        special = (model.transcribe, model.translate, model.bos)
        special += (model.bos_prev, model.bos_lm)
        return sorted({*model.non_speech_tokens, *special})

    @cached_property
    def _blank(self) -> list[int]:
        """Tokens that a transcript does not start with."""
        space = self.model.tokenizer.encode(" ", add_special_tokens=False)
        return [*space, self.model.eos]

    @torch.no_grad()
    def __call__(
        self,
        states: torch.Tensor,
        lengths: torch.Tensor | None = None,
        prompts: Sequence[Sequence[int]] | None = None,
        on_select: Callable[[torch.Tensor], None] | None = None,
    ) -> list[list[int]]:
        """Most probable token, one after the other.

        Arguments
        ---------
        states : torch.Tensor
            Encoder states, shape (batch, frames, width).
        lengths : torch.Tensor
            How many of the states belong to each utterance. Default: all.
        prompts : sequence of sequence of int
            Tokens that each hypothesis starts with, at least one. They may differ
            in length: where one goes on, others have begun with their text.
            Default: the model's prompt.
        on_select : callable
            Told which rows of the batch go on when some have ended, as indices.

        Returns
        -------
        list of list of int
            Tokens of each utterance, without prompt and end.
        """
        device = states.device
        prompts = prompts or [self.model.prompt] * len(states)
        prompt_lengths = torch.tensor([len(prompt) for prompt in prompts])
        table = torch.nn.utils.rnn.pad_sequence(
            [torch.tensor(prompt) for prompt in prompts], batch_first=True
        ).to(device)
        limits = self.model.config.max_target_positions - prompt_lengths
        limits = limits.clamp(max=self.max_tokens)
        position = int(prompt_lengths.min())
        tokens, cache = table[:, :position], None
        hypotheses: list[list[int]] = [[] for _ in prompts]
        rows = torch.arange(len(prompts))
        while len(rows):
            logits, cache = self.model.next_logits(states, tokens, cache, lengths)
            # How much of its text each row has; less than none within its prompt.
            said = position - prompt_lengths[rows]
            logits[:, self._suppressed] = -torch.inf
            first = (said == 0).nonzero().to(device)
            logits[first, self._blank] = -torch.inf
            chosen = logits.argmax(dim=-1)
            if position < table.shape[1]:
                given = table[rows.to(device), position]
                chosen = torch.where((said < 0).to(device), given, chosen)
            found = chosen.cpu()
            speaks = (said >= 0) & (found != self.model.eos)
            for row, token in zip(
                rows[speaks].tolist(), found[speaks].tolist(), strict=True
            ):
                hypotheses[row].append(token)
            goes_on = (said < 0) | (speaks & (said + 1 < limits[rows]))
            if not goes_on.all():
                keep = goes_on.nonzero()[:, 0]
                rows, keep = rows[keep], keep.to(device)
                if not len(rows):
                    break
                chosen, states = chosen[keep], states[keep]
                lengths = None if lengths is None else lengths[keep]
                cache.batch_select_indices(keep)
                if on_select is not None:
                    on_select(keep)
            tokens = chosen[:, None]
            position += 1
        return hypotheses
