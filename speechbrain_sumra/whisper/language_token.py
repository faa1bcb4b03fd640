"""A token for a language that Whisper does not know, and its place in the prompt."""

import torch
from torch import nn


class ExtendedEmbedding(nn.Embedding):
    """An embedding with one more row, which alone can be trained.

    ``weight`` stays the original table (vocabulary x width), so the tied
    output projection is untouched: the new token can be read, never written.

    Arguments
    ---------
    base : torch.nn.Embedding
        The original embedding; its table is shared, not copied.
    row : torch.Tensor
        Initial embedding of the new token, shape (width,).

    Example
    -------
    >>> base = nn.Embedding(3, 2)
    >>> extended = ExtendedEmbedding(base, torch.zeros(2))
    >>> extended(torch.tensor([[0, 3]]))[0, 1].tolist()
    [0.0, 0.0]
    >>> extended.weight is base.weight
    True
    """

    def __init__(self, base: nn.Embedding, row: torch.Tensor):
        super().__init__(
            base.num_embeddings,
            base.embedding_dim,
            padding_idx=base.padding_idx,
            _weight=base.weight,
        )
        self.weight = base.weight
        self.new_token = nn.Embedding(1, base.embedding_dim, _weight=row[None])

    @property
    def new_id(self) -> int:
        """Id of the new token: the first after the table."""
        return self.num_embeddings

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Embeddings of token ids, shape (...) -> (..., width)."""
        is_new = input == self.new_id
        known = super().forward(input.masked_fill(is_new, 0))
        return torch.where(is_new.unsqueeze(-1), self.new_token.weight[0], known)


def fix_prompt(tokenizer, prompt: list[int]) -> None:
    """Make ``tokenizer.prefix_tokens`` return this prompt.

    The tokenizer derives it from a fixed list of languages; SpeechBrain's
    searchers and recipes read it there.

    Arguments
    ---------
    tokenizer : transformers.WhisperTokenizer
        Its class is replaced by a subclass.
    prompt : list of int
        Token ids that start every hypothesis.
    """
    parent = type(tokenizer)
    tokenizer.__class__ = type(parent.__name__, (parent,), {"prefix_tokens": prompt})
