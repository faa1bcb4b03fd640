"""SumRA: a frozen sum-of-singular-vectors A and a trained B."""

import torch
from torch import nn

from speechbrain_sumra.basis import sum_basis


class SumRA(nn.Module):
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
        Which singular vectors share a row: "interleave" (default), "block"
        or "greedy"; see ``speechbrain_sumra.allocation``.
    train_down_proj : bool
        Train A as well (SumRA, Table 4, last row). Default: False.
    down_proj : torch.Tensor
        A (rank x k), if it has been computed already, e.g. read from a
        stored ``Basis``. Default: computed from the weight.

    Raises
    ------
    TypeError
        If the layer is not a ``torch.nn.Linear``.
    ValueError
        If rank, strategy, the weight or the shape of ``down_proj`` is
        unusable.

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

    def __init__(
        self,
        target_module: nn.Linear,
        rank: int = 32,
        alpha: float | None = None,
        strategy: str = "interleave",
        train_down_proj: bool = False,
        down_proj: torch.Tensor | None = None,
    ):
        super().__init__()
        if not isinstance(target_module, nn.Linear):
            raise TypeError(
                "SumRA adapts torch.nn.Linear layers, got "
                f"{type(target_module).__name__}. Choose target_layers that "
                "match linear layers only."
            )
        weight = target_module.weight
        if down_proj is None:
            down_proj = sum_basis(weight, rank, strategy)
        elif tuple(down_proj.shape) != (rank, weight.shape[1]):
            raise ValueError(
                f"down_proj must have shape {(rank, weight.shape[1])} (rank x "
                f"inputs of the layer), got {tuple(down_proj.shape)}."
            )

        self.pretrained_module = target_module.requires_grad_(False)
        out_features, in_features = weight.shape
        like = {"bias": False, "device": weight.device, "dtype": weight.dtype}
        self.adapter_down_proj = nn.Linear(in_features, rank, **like)
        self.adapter_up_proj = nn.Linear(rank, out_features, **like)
        with torch.no_grad():
            self.adapter_down_proj.weight.copy_(down_proj)
            self.adapter_up_proj.weight.zero_()
        self.adapter_down_proj.requires_grad_(train_down_proj)
        self.scaling = (rank if alpha is None else alpha) / rank

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
        update = self.adapter_up_proj(self.adapter_down_proj(x))
        if self.scaling != 1.0:
            update = update * self.scaling
        return self.pretrained_module(x) + update
