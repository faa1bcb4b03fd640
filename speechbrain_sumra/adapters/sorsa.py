"""SORSA: trained principal singular triplets, kept near orthonormal."""

import torch
from torch import nn

from speechbrain_sumra.adapters.linear_adapter import LinearAdapter
from speechbrain_sumra.allocation import check_rank
from speechbrain_sumra.basis import singular_triplets


class SORSA(LinearAdapter):
    """A linear layer with a SORSA adapter (Cao & Song, arXiv 2409.00055).

    ``y = W_r x + bias + U_p diag(S_p) V_p^T x``. U_p (d x r), S_p (r) and
    V_p^T (r x k) start as the r largest singular triplets of W0 (d x k) and
    are trained; ``W_r = W0 - U_p diag(S_p) V_p^T`` at that start is frozen, so
    the layer is unchanged until it is trained. The training loss gets
    ``gamma * (|U_p^T U_p - I|_F^2 + |V_p^T V_p - I|_F^2)`` for each layer.

    Arguments
    ---------
    target_module : torch.nn.Linear
        The pretrained layer. Its weight becomes W_r, frozen.
    rank : int
        Number r of triplets, 1 <= rank <= min(d, k).
    gamma : float
        Weight of the orthonormal regularizer. Default: 4e-4, as in the
        authors' experiments.
    left, values, right : torch.Tensor
        U_p, S_p and V_p^T, if they have been computed already by ``prepare``.
        Default: computed from the weight.

    Raises
    ------
    TypeError
        If the layer is not a ``torch.nn.Linear``.
    ValueError
        If rank or the weight is unusable.

    Example
    -------
    >>> layer = nn.Linear(10, 20)
    >>> x = torch.rand(3, 10)
    >>> before = layer(x)
    >>> adapter = SORSA(layer, rank=4)
    >>> torch.allclose(adapter(x), before, atol=1e-5)
    True
    >>> bool(adapter.regularizer() < 1e-9)
    True
    """

    prepared = ("left", "values", "right")

    def __init__(
        self,
        target_module: nn.Linear,
        rank: int = 32,
        gamma: float = 4e-4,
        left: torch.Tensor | None = None,
        values: torch.Tensor | None = None,
        right: torch.Tensor | None = None,
    ):
        super().__init__(target_module)
        weight = target_module.weight
        if left is None:
            left, values, right = self.prepare(weight, rank)[0].values()
        self.gamma = gamma
        out_features, in_features = weight.shape
        like = {"bias": False, "device": weight.device, "dtype": weight.dtype}
        self.adapter_down_proj = nn.Linear(in_features, rank, **like)
        self.adapter_scale = nn.Parameter(weight.new_empty(rank))
        self.adapter_up_proj = nn.Linear(rank, out_features, **like)
        with torch.no_grad():
            self.adapter_down_proj.weight.copy_(right)
            self.adapter_scale.copy_(values)
            self.adapter_up_proj.weight.copy_(left)
            weight -= self.delta_weight()

    @staticmethod
    def prepare(
        weight: torch.Tensor, rank: int
    ) -> tuple[dict[str, torch.Tensor], dict[str, float]]:
        """The r largest singular triplets of one layer.

        Arguments
        ---------
        weight : torch.Tensor
            W0, shape (d, k). On the meta device nothing is computed.
        rank : int
            Number r of triplets, 1 <= rank <= min(d, k).

        Returns
        -------
        tensors : dict
            "left" (d, r), "values" (r,) and "right" (r, k).
        figures : dict
            "principal_energy": the share of r in the sum of squared singular
            values.

        Raises
        ------
        ValueError
            If rank is not in that range, or the weight is damaged.
        """
        check_rank(rank, min(weight.shape))
        if weight.is_meta:
            out_features, in_features = weight.shape
            left, right = (
                weight.new_empty(out_features, rank),
                weight.new_empty(rank, in_features),
            )
            return {"left": left, "values": left[0], "right": right}, {}
        left, values, right = singular_triplets(weight)
        energy = float(values[:rank].square().sum() / values.square().sum())
        tensors = {
            "left": left[:, :rank],
            "values": values[:rank],
            "right": right[:rank],
        }
        return tensors, {"principal_energy": round(energy, 6)}

    def delta_weight(self) -> torch.Tensor:
        """``W_p = U_p diag(S_p) V_p^T``, shape (d, k)."""
        scaled = self.adapter_scale.unsqueeze(1) * self.adapter_down_proj.weight
        return self.adapter_up_proj.weight @ scaled

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
        principal = self.adapter_down_proj(x) * self.adapter_scale
        return self.pretrained_module(x) + self.adapter_up_proj(principal)

    def regularizer(self) -> torch.Tensor:
        """``gamma * (|U_p^T U_p - I|_F^2 + |V_p^T V_p - I|_F^2)``, a scalar."""
        left, right = self.adapter_up_proj.weight, self.adapter_down_proj.weight
        identity = torch.eye(left.shape[1], device=left.device, dtype=left.dtype)
        departure = (left.T @ left - identity).square().sum()
        departure = departure + (right @ right.T - identity).square().sum()
        return self.gamma * departure
