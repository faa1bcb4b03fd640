"""Greedy decoding in batches, with a cache of keys and values."""

from collections.abc import Callable, Sequence
from functools import cached_property

import torch

from speechbrain_sumra.whisper import Whisper
from speechbrain_sumra.whisper.repetition import RepeatingText

# More guessed tokens cost more where the guess is wrong.
MOST_GUESSED = 8


class GreedySearcher:
    """Greedy decoding that gives each utterance what it would get alone.

    The hypotheses are those of SpeechBrain's ``S2SWhisperGreedySearcher``: the
    same tokens are suppressed, and the same limit holds.  What differs is the
    work: log-probabilities are not collected, an utterance that has ended
    leaves the batch, and padded encoder states are masked. Where all utterances left
    repeat themselves, the tokens that would follow are guessed and checked in one
    pass of the decoder; of a wrong guess nothing is kept.

    Arguments
    ---------
    model : Whisper
        A Whisper of this package, adapted or not.
    max_tokens : int
        Longest hypothesis, in tokens.
    stop_repetition : bool
        End a hypothesis that says a phrase over and over, and keep the phrase once
        (``endless_phrase``). Default: False, as SpeechBrain's searcher goes on.

    Example
    -------
    >>> GreedySearcher(model=None, max_tokens=0)
    Traceback (most recent call last):
        ...
    ValueError: max_tokens must be at least 1, got 0.
    """

    def __init__(
        self, model: Whisper, max_tokens: int = 150, stop_repetition: bool = False
    ):
        if max_tokens < 1:
            raise ValueError(f"max_tokens must be at least 1, got {max_tokens}.")
        self.model = model
        self.max_tokens = max_tokens
        self.stop_repetition = stop_repetition

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
            What the model's ``encode`` gave, shape (batch, frames, width).
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
        states = self.model.finish_encoding(states, lengths)
        prompts = prompts or [self.model.prompt] * len(states)
        prompt_lengths = torch.tensor([len(prompt) for prompt in prompts])
        table = torch.nn.utils.rnn.pad_sequence(
            [torch.tensor(prompt) for prompt in prompts], batch_first=True
        ).to(device)
        limits = self.model.config.max_target_positions - prompt_lengths
        limits = limits.clamp(max=self.max_tokens)
        position = int(prompt_lengths.min())
        tokens, cache = table[:, :position], None
        texts = [RepeatingText(self.stop_repetition) for _ in prompts]
        rows = torch.arange(len(prompts))
        while len(rows):
            # How much of its text each row has; less than none within its prompt.
            said = position - prompt_lengths[rows]
            left = limits[rows] - said
            of_rows = [texts[row] for row in rows.tolist()]
            guessed = _guess(of_rows, min(MOST_GUESSED, int(left.min()) - 1))
            number = guessed.shape[1]
            tokens = torch.cat([tokens, guessed.to(device)], dim=1)
            logits, cache = self.model.next_logits(
                states, tokens, cache, lengths, positions=number + 1
            )
            logits[..., self._suppressed] = -torch.inf
            first = (said == 0).nonzero().to(device)
            logits[first, 0, self._blank] = -torch.inf
            chosen = logits.argmax(dim=-1)
            if position < table.shape[1]:
                given = table[rows.to(device), position]
                chosen[:, 0] = torch.where((said < 0).to(device), given, chosen[:, 0])
            found = chosen.cpu()
            # Up to the first that was not foreseen in all rows, and with it.
            foreseen = (found[:, :number] == guessed).all(dim=0)
            right = 1 + int(foreseen.cumprod(dim=0).sum())
            found, tokens = found[:, :right], chosen[:, right - 1 : right]
            if right <= number:
                cache.crop(right - 1 - number)
            for text, own, speaks in zip(
                of_rows, found.tolist(), (said >= 0).tolist(), strict=True
            ):
                if speaks:
                    text.extend([token for token in own if token != self.model.eos])
            stuck = torch.tensor([text.stuck for text in of_rows])
            ended = (found[:, -1] == self.model.eos) | (left == right) | stuck
            goes_on = (said < 0) | ~ended
            if not goes_on.all():
                keep = goes_on.nonzero()[:, 0]
                rows, keep = rows[keep], keep.to(device)
                if not len(rows):
                    break
                tokens, states = tokens[keep], states[keep]
                lengths = None if lengths is None else lengths[keep]
                cache.batch_select_indices(keep)
                if on_select is not None:
                    on_select(keep)
            position += right
        return [text.tokens for text in texts]


def _guess(texts: Sequence[RepeatingText], number: int) -> torch.Tensor:
    """Guesses for all texts, shape (texts, number); (texts, 0) if one has none."""
    guesses = [text.guess(number) for text in texts]
    if not all(guesses):
        guesses = [[] for _ in texts]
    return torch.tensor(guesses, dtype=torch.long)
