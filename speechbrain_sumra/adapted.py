"""Whisper with adapters: which layers get one, what trains, how much it is."""

from pathlib import Path

import torch
from speechbrain.nnet.adapters import AdaptedModel, replace_module
from speechbrain.utils.distributed import run_on_main
from torch import nn

from speechbrain_sumra.adapters import SumRA
from speechbrain_sumra.basis import stored_basis
from speechbrain_sumra.fingerprint import fingerprint_weights

# Every linear layer of the decoder (10 a layer), not the tied output
# projection; names as SpeechBrain's Whisper has them.
DECODER_LINEARS = [
    "model.decoder.layers.*_attn.*_proj",
    "model.decoder.layers.*.fc[12]",
]
DECODER_NORMS = ["model.decoder.layers.*_layer_norm", "model.decoder.layer_norm"]
LANGUAGE_TOKEN = ["model.decoder.embed_tokens.new_token"]


class AdaptedWhisper(AdaptedModel):
    """SpeechBrain's ``AdaptedModel`` with one stored basis for SumRA layers.

    ``AdaptedModel`` builds each adapter by itself and saves only what is
    trained.  Here the A's of all layers come from one ``Basis``, which is
    computed once for a base model, stored, and named by a fingerprint.

    Arguments
    ---------
    model_to_adapt : torch.nn.Module
        A Whisper of SpeechBrain or of this package.
    rank : int
        Rows of each A.
    basis_folder : str or Path
        Where bases are stored, for all runs and languages.
    alpha : float
        Adapters are scaled by alpha / rank. Default: rank.
    strategy : str
        "interleave" (default), "block" or "greedy".
    train_down_proj : bool
        Train A as well.
    train_norms : bool
        Train the decoder's layer norms, as the paper does. Default: True.
    target_layers : list of str
        Names of the layers to adapt, with shell-style wildcards. Default:
        every linear layer of the decoder.

    Raises
    ------
    ValueError
        If no layer matches, or rank or strategy is unusable.
    """

    def __init__(
        self,
        model_to_adapt: nn.Module,
        rank: int,
        basis_folder: str | Path,
        alpha: float | None = None,
        strategy: str = "interleave",
        train_down_proj: bool = False,
        train_norms: bool = True,
        target_layers: list[str] | None = None,
    ):
        target_layers = target_layers or DECODER_LINEARS
        norms = DECODER_NORMS if train_norms else []
        super().__init__(
            model_to_adapt,
            adapter_class=SumRA,
            target_layers=target_layers,
            unfrozen_layers=norms + LANGUAGE_TOKEN,
            adapter_kwargs={
                "rank": rank,
                "alpha": alpha,
                "strategy": strategy,
                "train_down_proj": train_down_proj,
            },
            manual_adapter_insertion=True,
        )
        if not self.replace_layers:
            raise ValueError(f"No layer of the model matches {target_layers}.")
        self.base_fingerprint = getattr(
            model_to_adapt, "base_fingerprint", None
        ) or fingerprint_weights(model_to_adapt)
        # In a distributed run one process computes it, the others read it.
        arguments = (
            model_to_adapt,
            self.replace_layers,
            rank,
            strategy,
            basis_folder,
            self.base_fingerprint,
        )
        run_on_main(stored_basis, args=arguments)
        self.basis, self.basis_file = stored_basis(*arguments)
        self.insert_adapters()

    def insert_adapters(self):
        """Replace each target layer by an adapter on its A of the basis."""
        for name in self.replace_layers:
            adapter = self.adapter_class(
                self.adapted_model.get_submodule(name),
                down_proj=self.basis.down_projections[name],
                **self.adapter_kwargs,
            )
            replace_module(self.adapted_model, name, adapter)


def trained_tensors(model: AdaptedModel) -> dict[str, torch.Tensor]:
    """The trained parameters of an adapted model, by their names in it.

    Arguments
    ---------
    model : AdaptedModel
        A model with adapters.

    Returns
    -------
    dict of str to torch.Tensor
        What one language adds to the base model and the basis.

    Example
    -------
    >>> model = AdaptedModel(
    ...     nn.Sequential(nn.Linear(4, 6)), SumRA, all_linear=True,
    ...     adapter_kwargs={"rank": 2},
    ... )
    >>> {name: tuple(p.shape) for name, p in trained_tensors(model).items()}
    {'0.adapter_up_proj.weight': (6, 2)}
    """
    return {
        name: parameter
        for name, parameter in model.adapted_model.named_parameters()
        if parameter.requires_grad
    }


def count_parameters(model: AdaptedModel) -> dict[str, int]:
    """How many parameters are trained, and how many there are.

    Arguments
    ---------
    model : AdaptedModel
        A model with adapters.

    Returns
    -------
    dict
        "trained" and "total".

    Example
    -------
    >>> model = AdaptedModel(
    ...     nn.Sequential(nn.Linear(4, 6)), SumRA, all_linear=True,
    ...     adapter_kwargs={"rank": 2},
    ... )
    >>> count_parameters(model)
    {'trained': 12, 'total': 50}
    """
    return {
        "trained": sum(p.numel() for p in trained_tensors(model).values()),
        "total": sum(p.numel() for p in model.parameters()),
    }
