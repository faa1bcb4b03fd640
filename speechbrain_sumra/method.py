"""What a method of adaptation does, and when it is asked to."""

from abc import ABC, abstractmethod
from collections.abc import Callable

import torch
from torch import nn

from speechbrain_sumra.basis import Basis


class AdaptationMethod(ABC):
    """Puts trainable parts into some layers of a frozen model.

    ``AdaptedWhisper`` calls ``make_basis`` (once for a base model, or once for
    a language if ``needs_data``) and ``insert``; the training loop calls the
    rest. Methods override what they need.

    Attributes
    ----------
    name : str
        Names the method in files and messages.
    settings : dict
        What an adapter file was trained with, of values that JSON can hold.
    basis_settings : dict
        What the basis depends on.
    needs_data : bool
        Whether the basis is made from a language's data, so that it is not
        shared.
    has_state : bool
        Whether the method keeps a state while it trains, to be saved in
        checkpoints; it then has SpeechBrain's checkpoint hooks.
    """

    name: str
    settings: dict
    basis_settings: dict
    needs_data = False
    has_state = False

    @abstractmethod
    def make_basis(
        self,
        model: nn.Module,
        layers: list[str],
        description: dict,
        run: Callable[[], None] | None = None,
    ) -> Basis:
        """Compute what is expensive, random or frozen; the model stays as it is.

        Arguments
        ---------
        model : torch.nn.Module
            The base model.
        layers : list of str
            Names of its linear layers.
        description : dict
            What the basis is made from.
        run : callable
            Runs the model over calibration data; given if ``needs_data``.

        Returns
        -------
        Basis
            Without tensors if nothing must be kept.

        Raises
        ------
        ValueError
            If the method cannot be used on these layers.
        """

    @abstractmethod
    def insert(self, model: nn.Module, layers: list[str], basis: Basis) -> None:
        """Put the trainable parts into the layers.

        Arguments
        ---------
        model : torch.nn.Module
            The base model. Its other parameters may be frozen by this.
        layers : list of str
            Names of its linear layers.
        basis : Basis
            What ``make_basis`` returned, now or earlier.

        Raises
        ------
        ValueError
            If the method cannot be used on these layers.
        """

    @abstractmethod
    def merged_layer(self, adapter: nn.Module) -> nn.Linear:
        """A plain layer that does what an adapted one does.

        Arguments
        ---------
        adapter : torch.nn.Module
            What ``insert`` put in the place of a layer. It stays as it is.

        Returns
        -------
        torch.nn.Linear
            A new layer.

        Raises
        ------
        ValueError
            If no linear layer does the same.
        """

    def regularizer(self, model: nn.Module) -> torch.Tensor | None:
        """What is added to the training loss, a scalar, or None.

        Arguments
        ---------
        model : torch.nn.Module
            The model with the trainable parts.
        """
        del model
        return None

    def start_training(self, total_steps: int) -> None:
        """Called before the first step.

        Arguments
        ---------
        total_steps : int
            Optimizer steps of the whole training.
        """
        del total_steps

    def after_step(self, step: int) -> None:
        """Called after each optimizer step, while gradients are still there.

        Arguments
        ---------
        step : int
            The step, counted from 1, also when training was resumed.
        """
        del step
