"""Layers of a decoder in which every row of a batch has its own language.

SumRA's A is the same for all languages, so ``x A^T`` is one product for the
whole batch; each row then takes its own B, norms and language token out of
tensors that hold those of many languages, one in each slot.
"""

import torch
from torch import nn
from torch.nn import functional as F

# Up to so many tokens a row, B is read where it lies instead of being copied
# for each row.
FEW_TOKENS = 4


class Rows:
    """Which slot each row of the current batch uses, known to all layers.

    Arguments
    ---------
    slots : int or torch.Tensor
        One slot for all rows, or one for each, shape (batch,).
    own_down : bool or torch.Tensor
        Of one slot for all: whether its language has an A of its own. Of one for
        each: the rows whose language has, as indices, or False for no row.
    """

    def __init__(
        self, slots: int | torch.Tensor = 0, own_down: bool | torch.Tensor = False
    ):
        self.slots = slots
        self.own_down = own_down
        self._kept: tuple | None = None

    def table_rows(self, rank: int, tokens: int) -> torch.Tensor:
        """Where the r rows of B^T of each token are, in a table of all slots' rows.

        Arguments
        ---------
        rank, tokens : int
            Rank r, and tokens a row. The answer is kept for the next layer.

        Returns
        -------
        torch.Tensor
            Indices, shape (batch * tokens, r).

        Example
        -------
        >>> Rows(torch.tensor([5, 0])).table_rows(rank=2, tokens=1).tolist()
        [[10, 11], [0, 1]]
        """
        asked = (self.slots, rank, tokens)
        if self._kept is None or any(
            old is not new for old, new in zip(self._kept[0], asked, strict=True)
        ):
            of_rank = torch.arange(rank, device=self.slots.device)
            found = self.slots[:, None] * rank + of_rank
            self._kept = asked, found.repeat_interleave(tokens, dim=0)
        return self._kept[1]

    def select(self, keep: torch.Tensor) -> None:
        """Keep some rows of the batch.

        Arguments
        ---------
        keep : torch.Tensor
            Their indices.

        Example
        -------
        >>> rows = Rows(torch.tensor([5, 6, 7]), torch.tensor([2]))
        >>> rows.select(torch.tensor([0, 2]))
        >>> rows.slots.tolist(), rows.own_down.tolist()
        ([5, 7], [1])
        """
        if isinstance(self.slots, int):
            return  # the same for any rows
        self.slots = self.slots[keep]
        if self.own_down is not False:
            own = torch.isin(keep, self.own_down).nonzero()[:, 0]
            self.own_down = own if len(own) else False


class MixedLinear(nn.Module):
    """``y_i = W0 x_i + bias + B_i A x_i``, with row i's own B and a common A.

    ``W0 x`` and ``A x`` are one product, with A below W0.

    Arguments
    ---------
    layer : torch.nn.Linear
        The pretrained layer, W0 (d x k).
    rows : Rows
        Says which slot each row of a batch uses.
    slots, rank : int
        How many languages there is room for, and for which rank r.
    dtype : torch.dtype
        What A and B are kept in.

    Attributes
    ----------
    down : torch.Tensor
        A, shape (r, k).
    up : torch.Tensor
        Every language's B, scaled and transposed, shape (slots, r, d).
    own_down : torch.Tensor or None
        A of languages that have their own, shape (slots, r, k).

    Example
    -------
    >>> rows = Rows(torch.tensor([1, 0]))
    >>> mixed = MixedLinear(nn.Linear(4, 6), rows, slots=2, rank=3)
    >>> _ = mixed.down.normal_(), mixed.up[1].normal_()
    >>> x = torch.rand(2, 5, 4)
    >>> change = mixed(x) - mixed.layer(x)
    >>> torch.allclose(change[0], x[0] @ mixed.down.T @ mixed.up[1], atol=1e-5)
    True
    >>> torch.allclose(change[1], torch.zeros(5, 6), atol=1e-5)
    True
    """

    def __init__(
        self,
        layer: nn.Linear,
        rows: Rows,
        slots: int,
        rank: int,
        dtype: torch.dtype = torch.float32,
    ):
        super().__init__()
        self.layer = layer
        self.rows = rows
        out_features, in_features = layer.weight.shape
        like = {"device": layer.weight.device, "dtype": dtype}
        self.up = torch.zeros(slots, rank, out_features, **like)
        self.own_down = None
        self._stack(torch.zeros(rank, in_features, **like))

    def _stack(self, down: torch.Tensor) -> None:
        """Put A below W0, of which there is no second copy then."""
        layer, number = self.layer, len(self.layer.weight)
        self.weight = torch.cat([layer.weight.detach().to(down.dtype), down])
        layer.weight = nn.Parameter(self.weight[:number], requires_grad=False)
        self.bias = None
        if layer.bias is not None:
            zeros = down.new_zeros(len(down))
            self.bias = torch.cat([layer.bias.detach().to(down.dtype), zeros])

    @property
    def down(self) -> torch.Tensor:
        """A, which may be written to."""
        return self.weight[len(self.layer.weight) :]

    def raise_rank(self, rank: int) -> None:
        """Room for languages of a higher rank; nothing is lost."""
        self.up = _padded(self.up, rank)
        if self.own_down is not None:
            self.own_down = _padded(self.own_down, rank)
        self._stack(_padded(self.down[None], rank)[0])

    @torch.no_grad()
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Output of the layer, shape (batch, tokens, k) -> (batch, tokens, d)."""
        x = x.to(self.up.dtype)
        rank, width = self.up.shape[1:]
        both = F.linear(x, self.weight, self.bias)
        output, inner = both.split([width, rank], dim=-1)
        own, slots = self.rows.own_down, self.rows.slots
        if isinstance(slots, int):
            if own:
                inner = F.linear(x, self.own_down[slots])
            output.view(-1, width).addmm_(inner.flatten(0, -2), self.up[slots])
            return output
        if own is not False:
            inner[own] = x[own] @ self.own_down[slots[own]].transpose(1, 2)
        tokens = x.shape[1]
        if tokens > FEW_TOKENS:
            return output.baddbmm_(inner, self.up[slots])
        # A weighted sum of rows of a table: nothing is copied.
        found = F.embedding_bag(
            self.rows.table_rows(rank, tokens),
            self.up.view(-1, width),
            per_sample_weights=inner.flatten(0, -2),
            mode="sum",
        )
        return output.add_(found.view(output.shape))


def _padded(tensor: torch.Tensor, rank: int) -> torch.Tensor:
    """Rows of zeros up to a higher rank, shape (slots, r, width)."""
    slots, rows, width = tensor.shape
    return torch.cat([tensor, tensor.new_zeros(slots, rank - rows, width)], dim=1)


class MixedLayerNorm(nn.Module):
    """``LayerNorm`` whose weight and bias are those of each row's language.

    Arguments
    ---------
    norm : torch.nn.LayerNorm
        The pretrained norm of width d; all slots start as it is.
    rows : Rows
        Says which slot each row of a batch uses.
    slots : int
        How many languages there is room for.

    Attributes
    ----------
    weight, bias : torch.Tensor
        Shape (slots, d).

    Example
    -------
    >>> mixed = MixedLayerNorm(nn.LayerNorm(4), Rows(torch.tensor([0, 1])), slots=2)
    >>> mixed.bias[1] = 7.0
    >>> x = torch.rand(2, 3, 4)
    >>> (mixed(x) - nn.LayerNorm(4)(x)).round().mean(dim=(1, 2)).tolist()
    [0.0, 7.0]
    """

    def __init__(self, norm: nn.LayerNorm, rows: Rows, slots: int):
        super().__init__()
        self.rows = rows
        self.eps = norm.eps
        self.weight = norm.weight.detach().repeat(slots, 1)
        self.bias = norm.bias.detach().repeat(slots, 1)

    @torch.no_grad()
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Normalised input, shape (batch, tokens, d)."""
        shape, slots = x.shape[-1:], self.rows.slots
        if isinstance(slots, int):
            return F.layer_norm(
                x, shape, self.weight[slots], self.bias[slots], self.eps
            )
        plain = F.layer_norm(x, shape, None, None, self.eps)
        return torch.addcmul(
            self.bias[slots][:, None], plain, self.weight[slots][:, None]
        )


class MixedEmbedding(nn.Module):
    """An embedding with one more token, whose row is that of each language.

    Arguments
    ---------
    base : torch.nn.Embedding
        The original embedding; its table is shared, not copied.
    rows : Rows
        Says which slot each row of a batch uses.
    slots : int
        How many languages there is room for.

    Attributes
    ----------
    weight : torch.Tensor
        The original table, to which the output projection is tied.
    new_token : torch.Tensor
        The language's own token in each slot, shape (slots, width).

    Example
    -------
    >>> mixed = MixedEmbedding(nn.Embedding(3, 2), Rows(torch.tensor([1, 0])), 2)
    >>> mixed.new_token[1] = 5.0
    >>> mixed(torch.tensor([[3], [3]])).flatten().tolist()
    [5.0, 5.0, 0.0, 0.0]
    """

    def __init__(self, base: nn.Embedding, rows: Rows, slots: int):
        super().__init__()
        self.base = base
        self.rows = rows
        self.new_token = base.weight.new_zeros(slots, base.embedding_dim)

    @property
    def weight(self) -> torch.Tensor:
        """The original table."""
        return self.base.weight

    @property
    def new_id(self) -> int:
        """Id of the language's own token: the first after the table."""
        return self.base.num_embeddings

    @torch.no_grad()
    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Embeddings of token ids, shape (batch, tokens) -> (..., width)."""
        is_new = input == self.new_id
        known = self.base(input.masked_fill(is_new, 0))
        slots = self.rows.slots
        row = self.new_token[slots]
        row = row if isinstance(slots, int) else row[:, None]
        return torch.where(is_new.unsqueeze(-1), row, known)
