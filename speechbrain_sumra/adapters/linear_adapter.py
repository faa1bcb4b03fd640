"""What our adapters have in common: a frozen linear layer inside."""

import copy
from abc import abstractmethod

import torch
from torch import nn


class LinearAdapter(nn.Module):
    """An adapter around one linear layer, which it freezes.

    Arguments
    ---------
    target_module : torch.nn.Linear
        The pretrained layer; ``pretrained_module`` from then on.

    Raises
    ------
    TypeError
        If the layer is not a ``torch.nn.Linear``.

    Example
    -------
    >>> layer = nn.Linear(2, 3)
    >>> LinearAdapter(layer).pretrained_module is layer
    True
    >>> layer.weight.requires_grad
    False
    """

    def __init__(self, target_module: nn.Linear):
        super().__init__()
        if not isinstance(target_module, nn.Linear):
            raise TypeError(
                f"{type(self).__name__} adapts torch.nn.Linear layers, got "
                f"{type(target_module).__name__}. Choose target_layers that "
                "match linear layers only."
            )
        self.pretrained_module = target_module.requires_grad_(False)

    @abstractmethod
    def delta_weight(self) -> torch.Tensor:
        """What the adapter adds to the weight of its frozen layer, (d, k)."""

    @torch.no_grad()
    def merge(self) -> nn.Linear:
        """A plain layer that does the same; the adapter stays as it is.

        Returns
        -------
        torch.nn.Linear
            A new layer of the original's shape, its weight ``delta_weight``
            more than the frozen one's.
        """
        merged = copy.deepcopy(self.pretrained_module)
        merged.weight += self.delta_weight().to(merged.weight.dtype)
        return merged
