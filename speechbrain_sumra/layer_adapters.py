"""The methods that are one ``nn.Module`` around each layer (SumRA, SORSA)."""

import inspect
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import torch
from speechbrain.nnet.adapters import replace_module
from torch import nn
from tqdm import tqdm

from speechbrain_sumra.basis import Basis
from speechbrain_sumra.method import AdaptationMethod


class LayerAdapters(AdaptationMethod):
    """Puts an adapter of one class around each of a model's layers.

    The class takes the layer and its settings, as SpeechBrain's adapters do,
    and may have any of these:

    ``prepare(weight, **settings)``, a static method: what is expensive and the
    same for all languages. It returns tensors by the names of the constructor's
    arguments that take them, and figures worth a report; those of all layers
    are the basis.

    ``regularizer()``: a term that is added to the training loss.

    Arguments
    ---------
    adapter_class : type
        A subclass of ``nn.Module``, e.g. ``SumRA``.
    **settings
        Its arguments beside the layer and the prepared tensors.

    Example
    -------
    >>> from speechbrain_sumra.adapters import SumRA
    >>> model = nn.Sequential(nn.Linear(4, 6))
    >>> adapters = LayerAdapters(SumRA, rank=2)
    >>> basis = adapters.make_basis(model, ["0"], {"method": "SumRA"})
    >>> list(basis.tensors)
    ['0.down_proj']
    >>> adapters.insert(model, ["0"], basis)
    >>> model[0].adapter_up_proj
    Linear(in_features=2, out_features=6, bias=False)
    """

    def __init__(self, adapter_class: type[nn.Module], **settings):
        self.adapter_class = adapter_class
        self.name = adapter_class.__name__
        self.prepare = getattr(adapter_class, "prepare", None)
        # What an adapter was trained with includes the defaults.
        arguments = inspect.signature(adapter_class).parameters.values()
        defaults = {a.name: a.default for a in arguments if a.default is not a.empty}
        self.settings = {**defaults, **settings}
        for name in getattr(adapter_class, "prepared", ()):
            self.settings.pop(name)
        if self.settings.get("alpha", 0) is None:
            self.settings["alpha"] = self.settings["rank"]
        accepted = inspect.signature(self.prepare).parameters if self.prepare else ()
        self.basis_settings = {
            name: value for name, value in self.settings.items() if name in accepted
        }

    def make_basis(
        self, model: nn.Module, layers: list[str], description: dict, run=None
    ) -> Basis:
        """Prepare every layer; see ``AdaptationMethod``."""
        del run
        if self.prepare is None:
            return Basis({}, description)

        def prepare(name):
            weight = model.get_submodule(name).weight
            try:
                return self.prepare(weight, **self.basis_settings)
            except ValueError as error:
                raise ValueError(f"Layer {name}: {error}") from error

        tensors, figures = {}, {}
        with _one_layer_a_thread() as pool:
            results = pool.map(prepare, layers)
            progress = tqdm(
                results, desc=f"{self.name} basis", unit="layer", total=len(layers)
            )
            for name, (prepared, figures[name]) in zip(layers, progress, strict=True):
                for key, tensor in prepared.items():
                    tensors[f"{name}.{key}"] = tensor.float().contiguous()
        return Basis(tensors, description, figures)

    def insert(self, model: nn.Module, layers: list[str], basis: Basis) -> None:
        """Replace each layer by an adapter around it."""
        for name in layers:
            prefix = f"{name}."
            prepared = {
                key.removeprefix(prefix): tensor
                for key, tensor in basis.tensors.items()
                if key.startswith(prefix)
            }
            layer = model.get_submodule(name)
            adapter = self.adapter_class(layer, **self.settings, **prepared)
            replace_module(model, name, adapter)

    def merged_layer(self, adapter: nn.Module) -> nn.Linear:
        """What the adapter's own ``merge`` returns."""
        if not hasattr(adapter, "merge"):
            raise ValueError(
                f"{self.name} cannot be merged: it has no method merge() that returns "
                "a plain linear layer."
            )
        return adapter.merge()

    def regularizer(self, model: nn.Module) -> torch.Tensor | None:
        """Sum of the adapters' regularizers, or None if they have none."""
        terms = [
            module.regularizer()
            for module in model.modules()
            if isinstance(module, self.adapter_class) and hasattr(module, "regularizer")
        ]
        return torch.stack(terms).sum() if terms else None


@contextmanager
def _one_layer_a_thread() -> Iterator[ThreadPoolExecutor]:
    """Threads for layers: one matrix alone does not keep many threads busy."""
    number = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with ThreadPoolExecutor(number) as pool:
            yield pool
    finally:
        torch.set_num_threads(number)
