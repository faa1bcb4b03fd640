"""Greedy decoding in batches, with a cache of keys and values."""

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
        self, states: torch.Tensor, lengths: torch.Tensor | None = None
    ) -> list[list[int]]:
        """Most probable token, one after the other.

        Arguments
        ---------
        states : torch.Tensor
            Encoder states, shape (batch, frames, width).
        lengths : torch.Tensor
            How many of the states belong to each utterance. Default: all.

        Returns
        -------
        list of list of int
            Tokens of each utterance, without prompt and end.
        """
        prompt = self.model.prompt
        number = len(states)
        limit = self.model.config.max_target_positions - len(prompt)
        hypotheses: list[list[int]] = [[] for _ in range(number)]
        rows = torch.arange(number, device=states.device)
        tokens = torch.tensor([prompt] * number, device=states.device)
        cache = None
        for step in range(min(self.max_tokens, limit)):
            logits, cache = self.model.next_logits(states, tokens, cache, lengths)
            logits[:, self._suppressed] = -torch.inf
            if step == 0:
                logits[:, self._blank] = -torch.inf
            chosen = logits.argmax(dim=-1)
            goes_on = chosen != self.model.eos
            if not goes_on.all():
                keep = goes_on.nonzero()[:, 0]
                if not len(keep):
                    break
                rows, chosen, states = rows[keep], chosen[keep], states[keep]
                lengths = None if lengths is None else lengths[keep]
                cache.batch_select_indices(keep)
            for row, token in zip(rows.tolist(), chosen.tolist(), strict=True):
                hypotheses[row].append(token)
            tokens = chosen[:, None]
        return hypotheses
