"""Whisper with adapters: which layers get one, what trains, how much it is."""

from pathlib import Path

import torch
from speechbrain.nnet.adapters import AdaptedModel, replace_module
from speechbrain.utils.distributed import run_on_main
from torch import nn

from speechbrain_sumra.basis import Basis, stored_basis
from speechbrain_sumra.fingerprint import fingerprint_weights
from speechbrain_sumra.layer_adapters import LayerAdapters
from speechbrain_sumra.method import AdaptationMethod

# The linear layers of a layer, not the tied output projection; names as SpeechBrain's
# Whisper has them. A layer of the decoder has eight in its attentions, one of the
# encoder four.
ATTENTION, MLP = "*_attn.*_proj", "fc[12]"
LINEARS = {"all": [ATTENTION, MLP], "attention": [ATTENTION], "mlp": [MLP]}
NORM = "*_layer_norm"
DECODER_LINEARS = [f"model.decoder.layers.*.{linear}" for linear in LINEARS["all"]]
DECODER_NORMS = [f"model.decoder.layers.*.{NORM}", "model.decoder.layer_norm"]
# Of which those of the last layers may be adapted, too.
ENCODER_LINEARS = [f"model.encoder.layers.*.{linear}" for linear in LINEARS["all"]]
ENCODER_NORMS = [f"model.encoder.layers.*.{NORM}", "model.encoder.layer_norm"]
LANGUAGE_TOKEN = ["model.decoder.embed_tokens.new_token"]


class AdaptedWhisper(AdaptedModel):
    """SpeechBrain's ``AdaptedModel`` with a basis that all languages share.

    ``AdaptedModel`` builds each adapter by itself and saves only what is
    trained.  Here what a method computes once for a base model (SumRA's A,
    VeRA's projections, ...) is a ``Basis``: stored, read by later runs and
    other languages, and named by a fingerprint.

    Arguments
    ---------
    model_to_adapt : torch.nn.Module
        A Whisper of SpeechBrain or of this package. If it is on the meta
        device, parameters can be counted and nothing else.
    adapter_class : type or AdaptationMethod
        An ``nn.Module`` around one layer (``SumRA``, ``SORSA``, SpeechBrain's
        own ``LoRA``), or ``PeftAdapters`` for a method of PEFT; or an
        ``AdaptationMethod`` with its settings. None: no adapters.
    adapter_kwargs : dict
        Its settings.
    basis_folder : str or Path
        Where bases are stored, for all runs and languages.
    train_norms : bool
        Train the layer norms of the decoder, as the paper does, and of adapted
        encoder layers. Default: True.
    target_layers : list of str
        Names of the layers to adapt, with shell-style wildcards. Default: those of
        ``linears`` of the decoder and of the encoder's last
        ``adapted_encoder_layers``, if the Whisper has such.
    linears : str
        Which linear layers: "all" (default), "attention" or "mlp" alone.
    unfrozen_layers : list of str
        Further layers to train as they are, e.g. ["model.decoder"]. Without
        adapters these are trained, and with them the encoder's last
        ``adapted_encoder_layers``; without these as well nothing is, not even norms.

    Attributes
    ----------
    adapters : LayerAdapters or PeftAdapters or None
        The method.
    basis : Basis or None
        None until ``insert_adapters`` is called, which happens here unless
        the method needs data first.

    Raises
    ------
    ValueError
        If no layer matches, or a setting is unusable.
    """

    def __init__(
        self,
        model_to_adapt: nn.Module,
        adapter_class: type | AdaptationMethod | None,
        adapter_kwargs: dict | None = None,
        basis_folder: str | Path = "basis",
        train_norms: bool = True,
        target_layers: list[str] | None = None,
        unfrozen_layers: list[str] | None = None,
        linears: str = "all",
    ):
        target_layers = target_layers or adapted_linears(model_to_adapt, linears)
        unfrozen_layers = list(unfrozen_layers or [])
        if adapter_class is not None or unfrozen_layers:
            if adapter_class is None:
                unfrozen_layers += _adapted_encoder(model_to_adapt)
            norms = _adapted_norms(model_to_adapt) if train_norms else []
            unfrozen_layers += norms + LANGUAGE_TOKEN
        super().__init__(
            model_to_adapt,
            adapter_class,
            target_layers=target_layers if adapter_class is not None else [],
            unfrozen_layers=unfrozen_layers,
            manual_adapter_insertion=True,
        )
        on_meta = next(model_to_adapt.parameters()).is_meta
        self.base_fingerprint = getattr(model_to_adapt, "base_fingerprint", None)
        if self.base_fingerprint is None and not on_meta:
            self.base_fingerprint = fingerprint_weights(model_to_adapt)
        self.basis_folder = Path(basis_folder)
        self.basis: Basis | None = None
        self.basis_file: Path | None = None
        self.adapters = None
        self._unmerged: dict[str, nn.Module] | None = None
        if adapter_class is None:
            return
        if not self.replace_layers:
            raise ValueError(f"No layer of the model matches {target_layers}.")
        self.adapters = method_from(adapter_class, adapter_kwargs or {})
        self.adapter_kwargs = self.adapters.settings
        if on_meta:
            # There is nothing to compute with: this model is only counted.
            self.insert_adapters(Basis({}, self.describe_basis()))
        elif not self.adapters.needs_data:
            self._insert_shared()

    @property
    def basis_is_shared(self) -> bool:
        """Whether all languages have the same basis (not so if data made it)."""
        return self.adapters is None or not self.adapters.needs_data

    @property
    def awaits_data(self) -> bool:
        """Whether adapters are still to be made, from data or from a file."""
        return self.adapters is not None and self.basis is None

    def describe_basis(self) -> dict:
        """What the basis is made from, beside data."""
        return basis_description(
            self.base_fingerprint, self.adapters, self.replace_layers
        )

    def _insert_shared(self) -> None:
        """Insert adapters on the stored basis."""
        description = self.describe_basis()

        def make():
            return self.adapters.make_basis(
                self.adapted_model, self.replace_layers, description
            )

        # In a distributed run one process computes it, the others read it.
        arguments = (self.basis_folder, description, make)
        run_on_main(stored_basis, args=arguments)
        basis, self.basis_file = stored_basis(*arguments)
        self.insert_adapters(basis)

    def calibrate(self, path: str | Path, run) -> None:
        """Make adapters that are initialised from data, once.

        Arguments
        ---------
        path : str or Path
            Where the result is kept; it is read if it is there already, as
            when a run is resumed.
        run : callable
            Runs the model over calibration data; with gradients enabled, it
            must call ``backward`` as well.
        """
        description = self.describe_basis()

        def make():
            if not Path(path).exists():
                self.adapters.make_basis(
                    self.adapted_model, self.replace_layers, description, run
                ).save(path)

        run_on_main(make)
        self.insert_adapters(Basis.load(path))

    def insert_adapters(self, basis: Basis) -> None:
        """Put the adapters into the model.

        Arguments
        ---------
        basis : Basis
            What the method prepared for this model.
        """
        # PEFT freezes all else.
        trained = [p for p in self.adapted_model.parameters() if p.requires_grad]
        self.adapters.insert(self.adapted_model, self.replace_layers, basis)
        for parameter in trained:
            parameter.requires_grad_(True)
        self.basis = basis

    def merge(self) -> None:
        """Put plain layers in the place of the adapted ones: ``W0 + (alpha / r) B A``.

        The model computes the same to rounding, faster, and for this one language.
        The adapted layers are kept for ``unmerge``; nothing can be trained until
        then. Weights should be float32: bfloat16 rounds small updates away.

        Raises
        ------
        ValueError
            If it is merged already, or the method has no such layers.
        """
        if self._unmerged is not None:
            raise ValueError("The adapters are merged already: unmerge() first.")
        layers = self.replace_layers if self.adapters is not None else []
        adapted = {name: self.adapted_model.get_submodule(name) for name in layers}
        merged = {
            name: self.adapters.merged_layer(layer).requires_grad_(False)
            for name, layer in adapted.items()
        }
        for name, layer in merged.items():
            replace_module(self.adapted_model, name, layer)
        self._unmerged = adapted

    def unmerge(self) -> None:
        """Put the adapted layers back, as they were to the bit.

        Raises
        ------
        ValueError
            If nothing is merged.
        """
        if self._unmerged is None:
            raise ValueError("The adapters are not merged: merge() first.")
        for name, layer in self._unmerged.items():
            replace_module(self.adapted_model, name, layer)
        self._unmerged = None

    def regularizer(self) -> torch.Tensor | None:
        """What the method adds to the training loss, a scalar, or None."""
        if self.adapters is None:
            return None
        return self.adapters.regularizer(self.adapted_model)


def adapted_linears(whisper: nn.Module, linears: str = "all") -> list[str]:
    """Names of the linear layers that are adapted unless others are asked for.

    Arguments
    ---------
    whisper : torch.nn.Module
        A Whisper. If it has no ``adapted_encoder_layers``, none of the encoder's are.
    linears : str
        "all", or those of "attention" or "mlp" alone.

    Returns
    -------
    list of str
        With shell-style wildcards.

    Raises
    ------
    ValueError
        If linears is none of these.

    Example
    -------
    >>> adapted_linears(nn.Linear(2, 2))
    ['model.decoder.layers.*.*_attn.*_proj', 'model.decoder.layers.*.fc[12]']
    >>> adapted_linears(nn.Linear(2, 2), "mlp")
    ['model.decoder.layers.*.fc[12]']
    """
    if linears not in LINEARS:
        raise ValueError(
            f"Unknown adapted_linears {linears!r}; expected one of "
            f"{', '.join(LINEARS)}."
        )
    layers = ["model.decoder.layers.*", *_adapted_encoder(whisper)]
    return [f"{layer}.{name}" for layer in layers for name in LINEARS[linears]]


def _adapted_norms(whisper: nn.Module) -> list[str]:
    """Names of the norms beside them; the encoder's last one comes after its layers."""
    encoder = _adapted_encoder(whisper)
    last = ENCODER_NORMS[-1:] if encoder else []
    return DECODER_NORMS + [f"{layer}.{NORM}" for layer in encoder] + last


def _adapted_encoder(whisper: nn.Module) -> list[str]:
    """Names of the encoder's adapted layers."""
    number = getattr(whisper, "adapted_encoder_layers", 0)
    if not number:
        return []
    total = len(whisper.model.encoder.layers)
    return [f"model.encoder.layers.{i}" for i in range(total - number, total)]


def basis_description(
    base_fingerprint: str, method: AdaptationMethod, layers: list[str]
) -> dict:
    """What a basis is made from, beside data.

    Arguments
    ---------
    base_fingerprint : str
        Of the base model.
    method : AdaptationMethod
        What makes it.
    layers : list of str
        The adapted layers.
    """
    return {
        "base_fingerprint": base_fingerprint,
        "method": method.name,
        "settings": method.basis_settings,
        "layers": sorted(layers),
    }


def method_from(adapter_class, settings: dict) -> AdaptationMethod:
    """The method behind a class, as HyperPyYAML's ``!name:`` gives it.

    Arguments
    ---------
    adapter_class : type or AdaptationMethod
        As for ``AdaptedWhisper``.
    settings : dict
        Its settings.

    Example
    -------
    >>> from speechbrain_sumra import SumRA
    >>> method_from(SumRA, {"rank": 4}).name
    'SumRA'
    """
    if isinstance(adapter_class, AdaptationMethod):
        return adapter_class
    partial_settings = getattr(adapter_class, "keywords", {})
    adapter_class = getattr(adapter_class, "func", adapter_class)
    settings = {**partial_settings, **settings}
    if issubclass(adapter_class, nn.Module):
        return LayerAdapters(adapter_class, **settings)
    return adapter_class(**settings)


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
    >>> from speechbrain_sumra import SumRA
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
    >>> from speechbrain_sumra import SumRA
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
