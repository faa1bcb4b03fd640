"""SumRA: a frozen sum-of-singular-vectors A and a trained B."""

import torch
from torch import nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from speechbrain_sumra.adapters.linear_adapter import LinearAdapter
from speechbrain_sumra.basis import sum_basis_and_load
from speechbrain_sumra.speech_basis import check_needs_no_speech


class SumRA(LinearAdapter):
    """A linear layer with a SumRA adapter (SumRA, Table 1 and eq. 10).

    ``y = W0 x + bias + (alpha / r) B A x`` with W0 (d x k) frozen, A (r x k)
    made of W0's singular vectors and frozen, B (d x r) trained from zero.
    A drop-in ``adapter_class`` for ``speechbrain.nnet.adapters.AdaptedModel``.

    Because A is frozen, autograd keeps its output (r numbers a frame) for
    the backward pass, not its input (k numbers a frame).

    Arguments
    ---------
    target_module : torch.nn.Linear
        The pretrained layer. It is frozen.
    rank : int
        Rows of A, 1 <= rank <= min(d, k).
    alpha : float
        The adapter is scaled by alpha / rank. Default: rank, i.e. by 1.
    strategy : str
        Which singular vectors share a row: "interleave" (default), "block",
        "greedy", "karmarkar_karp" or "slice:0", ...; see
        ``speechbrain_sumra.allocation``. Or how A was made from speech: "inputs",
        ...; see ``speechbrain_sumra.speech_basis``. Then A is always given.
    row_norm : str or float
        Length of A's rows: "raw" (default: as the sums are), "unit", or a
        number.
    train_down_proj : bool
        Train A as well (SumRA, Table 4, last row). Default: False.
    down_proj : torch.Tensor
        A (rank x k), if it has been computed already by ``prepare``, e.g.
        read from a stored ``Basis``. Default: computed from the weight.

    Raises
    ------
    TypeError
        If the layer is not a ``torch.nn.Linear``.
    ValueError
        If rank, strategy, row_norm, the weight or the shape of ``down_proj``
        is unusable.

    Example
    -------
    >>> from speechbrain.nnet.adapters import AdaptedModel
    >>> model = nn.Sequential(nn.Linear(10, 20), nn.ReLU(), nn.Linear(20, 5))
    >>> x = torch.rand(3, 10)
    >>> before = model(x)
    >>> adapted = AdaptedModel(
    ...     model, adapter_class=SumRA, all_linear=True, adapter_kwargs={"rank": 2}
    ... )
    >>> bool((adapted(x) == before).all())
    True
    >>> [n for n, p in adapted.named_parameters() if p.requires_grad]
    ['adapted_model.0.adapter_up_proj.weight', 'adapted_model.2.adapter_up_proj.weight']
    """

    prepared = ("down_proj",)

    def __init__(
        self,
        target_module: nn.Linear,
        rank: int = 32,
        alpha: float | None = None,
        strategy: str = "interleave",
        row_norm: str | float = "raw",
        train_down_proj: bool = False,
        down_proj: torch.Tensor | None = None,
    ):
        super().__init__(target_module)
        weight = target_module.weight
        if down_proj is None:
            down_proj = self.prepare(weight, rank, strategy, row_norm)[0]["down_proj"]
        elif tuple(down_proj.shape) != (rank, weight.shape[1]):
            raise ValueError(
                f"down_proj must have shape {(rank, weight.shape[1])} (rank x "
                f"inputs of the layer), got {tuple(down_proj.shape)}."
            )

        out_features, in_features = weight.shape
        like = {"bias": False, "device": weight.device, "dtype": weight.dtype}
        self.adapter_down_proj = nn.Linear(in_features, rank, **like)
        self.adapter_up_proj = nn.Linear(rank, out_features, **like)
        with torch.no_grad():
            self.adapter_down_proj.weight.copy_(down_proj)
            self.adapter_up_proj.weight.zero_()
        self.adapter_down_proj.requires_grad_(train_down_proj)
        self.scaling = (rank if alpha is None else alpha) / rank

    @staticmethod
    def prepare(
        weight: torch.Tensor,
        rank: int,
        strategy: str = "interleave",
        row_norm: str | float = "raw",
    ) -> tuple[dict[str, torch.Tensor], dict[str, float]]:
        """A of one layer, which is the same for all languages.

        Arguments
        ---------
        weight : torch.Tensor
            W0, shape (d, k). On the meta device nothing is computed.
        rank, strategy, row_norm
            As for the class.

        Returns
        -------
        tensors : dict
            "down_proj": A, shape (rank, k).
        figures : dict
            "row_load_over_bound": the largest row load over its lower bound.

        Raises
        ------
        ValueError
            If a setting is unusable, or the strategy looks at speech.
        """
        if weight.is_meta:
            return {"down_proj": weight.new_empty(rank, weight.shape[1])}, {}
        check_needs_no_speech(strategy)
        rows, load = sum_basis_and_load(weight, rank, strategy, row_norm)
        return {"down_proj": rows}, {"row_load_over_bound": round(load, 6)}

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Output of the adapted layer.

        Arguments
        ---------
        x : torch.Tensor
            Input, shape (..., k).

        Returns
        -------
        torch.Tensor
            Output, shape (..., d).
        """
        factors = self.factors()
        if factors is None or self._trains_more_than_up_proj():
            update = self.adapter_up_proj(self.adapter_down_proj(x))
            return self.pretrained_module(x) + self.scaling * update
        if torch.is_grad_enabled():
            return _FrozenDown.apply(x, *factors)
        return _adapted_product(x, *factors)[0]

    def _trains_more_than_up_proj(self) -> bool:
        return self.adapter_down_proj.weight.requires_grad or any(
            parameter.requires_grad for parameter in self.pretrained_module.parameters()
        )

    def factors(self) -> tuple | None:
        """W0 (d x k), its bias or None, A (r x k), B (d x r) and alpha / r.

        None if the frozen layer is not a plain ``torch.nn.Linear``.

        Example
        -------
        >>> weight, bias, down, up, scaling = SumRA(nn.Linear(4, 6), rank=2).factors()
        >>> tuple(weight.shape), tuple(down.shape), tuple(up.shape), scaling
        ((6, 4), (2, 4), (6, 2), 1.0)
        """
        layer = self.pretrained_module
        if type(layer) is not nn.Linear:
            return None
        down, up = self.adapter_down_proj.weight, self.adapter_up_proj.weight
        return layer.weight, layer.bias, down, up, self.scaling

    def delta_weight(self) -> torch.Tensor:
        """``(alpha / r) B A``, shape (d, k)."""
        update = self.adapter_up_proj.weight @ self.adapter_down_proj.weight
        return self.scaling * update


def _adapted_product(x, weight, bias, down, up, scaling):
    """``x W0^T + bias + scaling * x A^T B^T``, and what its gradient needs."""
    device, dtype = x.device.type, x.dtype
    if torch.is_autocast_enabled(device):
        dtype = torch.get_autocast_dtype(device)
    weight, down, up = weight.to(dtype), down.to(dtype), up.to(dtype)
    rows = x.to(dtype).reshape(-1, x.shape[-1])
    output = F.linear(rows, weight, None if bias is None else bias.to(dtype))
    inner = F.linear(rows, down)
    output.addmm_(inner, up.T, alpha=scaling)
    return output.view(*x.shape[:-1], -1), (inner, weight, down, up)


class _FrozenDown(torch.autograd.Function):
    """``x W0^T + bias + scaling * x A^T B^T`` where only x and B have gradients.

    ``x A^T`` is kept for the backward pass, x is not. Products are added where they
    are computed, so no sum of two matrices is a pass over memory of its own.
    """

    @staticmethod
    def forward(ctx, x, weight, bias, down, up, scaling):
        output, needed = _adapted_product(x, weight, bias, down, up, scaling)
        ctx.save_for_backward(*needed)
        ctx.shape, ctx.dtypes, ctx.scaling = x.shape, (x.dtype, up.dtype), scaling
        return output

    @staticmethod
    @once_differentiable
    def backward(ctx, upstream):
        inner, weight, down, up = ctx.saved_tensors
        rows = upstream.reshape(-1, upstream.shape[-1])
        x_dtype, up_dtype = ctx.dtypes
        grad_x = grad_up = None
        if ctx.needs_input_grad[4]:
            grad_up = (rows.T @ inner).to(up_dtype).mul_(ctx.scaling)
        if ctx.needs_input_grad[0]:
            grad_x = rows @ weight
            grad_x.addmm_(rows @ up, down, alpha=ctx.scaling)
            grad_x = grad_x.view(ctx.shape).to(x_dtype)
        return grad_x, None, None, None, grad_up, None
