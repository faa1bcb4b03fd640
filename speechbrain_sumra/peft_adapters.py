"""The methods that PEFT owns, injected by PEFT itself into the same layers.

LoRA and its kin are PEFT's own code here, so that a comparison is with the
reference implementations and not with look-alikes.  What this module adds is
what a file per language needs: whatever a method freezes, or subtracts from
the base weights, is collected into a ``Basis`` and put back from it.
"""

import copy
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from fnmatch import fnmatch

import torch
from torch import nn

from speechbrain_sumra.basis import Basis, normalize_rows, singular_triplets
from speechbrain_sumra.method import AdaptationMethod

ADAPTER = "default"  # PEFT's name for a model's only adapter
# Initialisations that take principal components of a matrix of the layer's
# shape, and how many of them for each unit of rank.
COMPONENTS = {"pissa": 1, "corda": 1, "olora": 1, "mica": 1, "lora_ga": 2}
# Data-driven initialisations: the argument of LoraConfig that sets them, and
# its class.
FROM_DATA = {
    "corda": ("corda_config", "CordaConfig"),
    "lora_ga": ("lora_ga_config", "LoraGAConfig"),
}


# Initialisations that are the same on every machine if they are computed in float64,
# which PEFT does not.
EXACT = ("pissa", "olora")


class MissingExtraError(ImportError):
    """A method was asked for whose library is not installed."""


class PeftAdapters(AdaptationMethod):
    """Puts a PEFT method into a model's layers.

    Arguments
    ---------
    config : str
        Name of a PEFT configuration class, e.g. "LoraConfig".
    frozen : list of str
        Adapter parameters that are not trained, with shell-style wildcards,
        e.g. ["*.lora_A.*"] for LoRA-FA.
    row_norm : str or float
        Length of the rows of LoRA's A: "raw" (default), "unit" or a number;
        see ``speechbrain_sumra.basis.normalize_rows``.
    seed : int
        Seed of what the method draws at random.
    **settings
        Arguments of the configuration, e.g. r, lora_alpha,
        init_lora_weights.

    Raises
    ------
    MissingExtraError
        If PEFT is not installed.
    ValueError
        If PEFT has no such configuration, or refuses its arguments.

    Example
    -------
    >>> model = nn.Sequential(nn.Linear(4, 6))
    >>> adapters = PeftAdapters("LoraConfig", r=2, init_lora_weights="pissa")
    >>> basis = adapters.make_basis(model, ["0"], {"method": "Lora"})
    >>> list(basis.tensors)
    ['0.initial.lora_A', '0.initial.lora_B']
    >>> x = torch.rand(3, 4)
    >>> before = model(x)
    >>> adapters.insert(model, ["0"], basis)
    >>> torch.allclose(model(x), before, atol=1e-6)
    True
    >>> [name for name, p in model.named_parameters() if p.requires_grad]
    ['0.lora_A.default.weight', '0.lora_B.default.weight']
    """

    def __init__(
        self,
        config: str,
        frozen: Iterable[str] = (),
        row_norm: str | float = "raw",
        seed: int = 0,
        **settings,
    ):
        self.peft = import_peft()
        config_class = getattr(self.peft, config, None)
        if not isinstance(config_class, type) or not issubclass(
            config_class, self.peft.PeftConfig
        ):
            known = sorted(
                name
                for name, value in vars(self.peft).items()
                if isinstance(value, type) and issubclass(value, self.peft.PeftConfig)
            )
            raise ValueError(
                f"PEFT {self.peft.__version__} has no configuration {config!r}; "
                f"it has {', '.join(known)}."
            )
        self.config_class = config_class
        start = settings.get("init_lora_weights")
        if isinstance(start, str):
            settings["init_lora_weights"] = start.lower()
        self.arguments = settings
        self.frozen = list(frozen)
        self.row_norm = row_norm
        self.seed = seed
        self.name = config.removesuffix("Config")
        self.settings = {"frozen": self.frozen, "row_norm": row_norm, **settings}
        # What is not random is the same for all seeds.
        self.exact = settings.get("init_lora_weights") in EXACT
        # A basis that PEFT made in float32, as before, has another name.
        made = {"made_in": "float64"} if self.exact else {"seed": seed}
        self.basis_settings = {**self.settings, **made}
        if row_norm != "raw" and "*.lora_A.*" not in self.frozen:
            raise ValueError(
                f"row_norm={row_norm!r} is for a frozen A: add '*.lora_A.*' to "
                "frozen, or leave row_norm at 'raw'."
            )
        self.config = self._make_config([])

    @property
    def initialisation(self) -> str | None:
        """LoRA's initialisation where it is a named one, without its options."""
        value = self.arguments.get("init_lora_weights")
        return value.split("_niter_")[0] if isinstance(value, str) else None

    @property
    def needs_data(self) -> bool:
        """Whether the adapters are initialised from data."""
        return self.initialisation in FROM_DATA

    def _make_config(self, layers: list[str], **changes):
        arguments = {**self.arguments, **changes}
        kind = arguments.get("init_lora_weights")
        if kind == "eva":
            raise ValueError(
                "EVA changes the rank of each layer from its data, which is not "
                f"supported here; data-driven are {', '.join(FROM_DATA)}."
            )
        try:
            for data_driven, (name, class_name) in FROM_DATA.items():
                options = arguments.pop(name, {})
                if kind == data_driven:
                    from peft.tuners.lora import config as lora_config

                    arguments[name] = getattr(lora_config, class_name)(**options)
            return self.config_class(
                target_modules="|".join(re.escape(name) for name in layers) or None,
                **arguments,
            )
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"PEFT refuses these settings of {self.config_class.__name__}: {error}"
            ) from error

    def make_basis(
        self,
        model: nn.Module,
        layers: list[str],
        description: dict,
        run: Callable[[], None] | None = None,
    ) -> Basis:
        """Initialise adapters as PEFT does and collect what must be kept.

        That is, for each layer, what the method freezes (LoRA-FA's A, VeRA's
        projections) and, where it takes its first adapter out of the base
        weight (PiSSA, CorDA, OLoRA, LoRA-GA), that adapter. See
        ``AdaptationMethod``.
        """
        # Shared tensors are named after the first layer that has them.
        layers = [name for name, _ in model.named_modules() if name in set(layers)]
        self._check_rank(model, layers)
        plain = {"init_lora_weights": True} if self.exact else {}
        config = self._make_config(layers, **plain)
        with _seeded(self.seed):
            if self.needs_data:
                self._calibrate(model, config, run)
            # Copies of the layers, with what the calibration left on them.
            copies = _copy_layers(model, layers)
            for name in layers:
                for leftover in ("eigens", "_peft_loraga_grad"):
                    model.get_submodule(name).__dict__.pop(leftover, None)
            self._inject(copies, config)
        for name in layers if self.exact else ():
            self._start_exactly(copies.get_submodule(name))
        return Basis(self._collect(model, copies, layers), description)

    def _calibrate(self, model: nn.Module, config, run) -> None:
        """Let PEFT see the layers' inputs or gradients on calibration data."""
        from peft.tuners.lora import preprocess_loraga
        from peft.tuners.lora.corda import preprocess_corda

        if run is None:
            raise ValueError(
                f"{self.initialisation} needs data: expected run, got None."
            )
        was_training = model.training
        try:
            if self.initialisation == "corda":
                preprocess_corda(model, config, run_model=run)
            else:
                preprocess_loraga(model, config, train_step=run)
        except (ZeroDivisionError, AttributeError) as error:
            raise ValueError(
                f"{self.initialisation}: the calibration data reached none of a "
                f"layer's inputs or gradients ({error}). Is there any?"
            ) from error
        finally:
            model.train(was_training)
        if self.initialisation == "lora_ga":
            for name, module in model.named_modules():
                found = hasattr(module, "_peft_loraga_grad")
                if re.fullmatch(config.target_modules, name) and not found:
                    raise ValueError(
                        f"lora_ga: calibration gave layer {name} no gradient. "
                        "Does run call backward on a loss of the whole model?"
                    )

    def _check_rank(self, model: nn.Module, layers: list[str]) -> None:
        """Refuse a rank that a layer has not enough components for."""
        if self.initialisation not in COMPONENTS:
            return
        number = COMPONENTS[self.initialisation] * self.config.r
        for name in layers:
            shape = tuple(model.get_submodule(name).weight.shape)
            if number > min(shape):
                raise ValueError(
                    f"Layer {name}: {self.initialisation} at rank {self.config.r} "
                    f"needs {number} components, this {shape[0]} x {shape[1]} "
                    f"weight has {min(shape)}. Choose a smaller rank."
                )

    def _inject(self, model: nn.Module, config):
        tuner_class = self.peft.PEFT_TYPE_TO_TUNER_MAPPING[config.peft_type]
        on_meta = next(model.parameters()).is_meta
        try:
            # Not inject_adapter_in_model: it refuses methods with shared state.
            return tuner_class(model, config, ADAPTER, low_cpu_mem_usage=on_meta)
        except (TypeError, ValueError, RuntimeError, AssertionError) as error:
            raise ValueError(
                f"PEFT cannot put {self.config_class.__name__} into these layers: "
                f"{error}"
            ) from error

    def _start_exactly(self, layer: nn.Module) -> None:
        """PEFT's PiSSA or OLoRA in float64, with fixed signs.

        In float32 the start differs by some 1e-5 from one number of threads to the
        next, and a language's file would be refused for that.
        """
        base, rank = layer.get_base_layer(), layer.r[ADAPTER]
        if self.initialisation == "pissa":
            left, values, right = singular_triplets(base.weight.detach())
            roots = (values[:rank] / layer.scaling[ADAPTER]).sqrt()
            up, down = left[:, :rank] * roots, roots[:, None] * right[:rank]
        else:
            left, right = torch.linalg.qr(base.weight.detach().double())
            signs = right.diagonal()[:rank].sign()
            up, down = left[:, :rank] * signs, signs[:, None] * right[:rank]
        with torch.no_grad():
            layer.lora_A[ADAPTER].weight.copy_(down)
            layer.lora_B[ADAPTER].weight.copy_(up)
            base.weight -= layer.get_delta_weight(ADAPTER)

    def _collect(self, model, copies, layers) -> dict[str, torch.Tensor]:
        tensors = {}
        trained = self._freeze(copies)
        for name, tensor in [*copies.named_parameters(), *copies.named_buffers()]:
            # Single numbers are constants of the method.
            if (
                name not in trained
                and ".base_layer." not in name
                and tensor.numel() > 1
            ):
                tensors[name] = tensor.detach().clone().float()
        for name in layers:
            layer, original = copies.get_submodule(name), model.get_submodule(name)
            if torch.equal(layer.get_base_layer().weight, original.weight):
                continue
            if not hasattr(layer, "lora_A"):
                raise ValueError(
                    f"{self.config_class.__name__} changes the base weight of {name} "
                    "when it is put in; this is supported for LoRA's kin only."
                )
            for part in ("lora_A", "lora_B"):
                weight = getattr(layer, part)[ADAPTER].weight
                tensors[f"{name}.initial.{part}"] = weight.detach().clone().float()
        return tensors

    def _freeze(self, model: nn.Module) -> set[str]:
        """Freeze what is not to be trained; names of what is."""
        trained = set()
        for name, parameter in model.named_parameters():
            if parameter.requires_grad and any(fnmatch(name, f) for f in self.frozen):
                parameter.requires_grad_(False)
                if ".lora_A." in name:
                    parameter.data = normalize_rows(parameter.data, self.row_norm)
            elif parameter.requires_grad:
                trained.add(name)
        return trained

    def insert(self, model: nn.Module, layers: list[str], basis: Basis) -> None:
        """Inject adapters and put back what the basis keeps."""
        starts = any(".initial." in name for name in basis.tensors)
        on_meta = next(model.parameters()).is_meta
        plain = starts or (on_meta and self.initialisation)
        changes = {"init_lora_weights": True} if plain else {}
        self.config = self._make_config(layers, **changes)
        with _seeded(self.seed):
            self.tuner = self._inject(model, self.config)
        self._freeze(model)
        own = {**dict(model.named_parameters()), **dict(model.named_buffers())}
        with torch.no_grad():
            for name, tensor in basis.tensors.items():
                if ".initial." not in name:
                    own[name].copy_(tensor)
            for name in layers if starts else ():
                layer = model.get_submodule(name)
                for part in ("lora_A", "lora_B"):
                    start = basis.tensors[f"{name}.initial.{part}"]
                    getattr(layer, part)[ADAPTER].weight.copy_(start)
                layer.get_base_layer().weight -= layer.get_delta_weight(ADAPTER)

    def merged_layer(self, adapter: nn.Module) -> nn.Linear:
        """PEFT's own merge, of a copy."""
        merged = copy.deepcopy(adapter)
        merged.merge(safe_merge=True)
        return merged.get_base_layer()


def import_peft():
    """PEFT, or an error that says how to install it."""
    try:
        import peft
    except ImportError as error:
        raise MissingExtraError(
            "This method comes from PEFT, which is not installed: "
            "pip install 'speechbrain-sumra[baselines]'"
        ) from error
    return peft


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Draw from a seed of its own and leave the global random state alone."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        yield


def _copy_layers(model: nn.Module, layers: list[str]) -> nn.Module:
    """A model of nothing but copies of some layers, under the same names."""
    root = nn.Module()
    for name in layers:
        *parents, _ = name.split(".")
        module = root
        for parent in parents:
            if not hasattr(module, parent):
                module.add_module(parent, nn.Module())
            module = module.get_submodule(parent)
        replace = copy.deepcopy(model.get_submodule(name))
        module.add_module(name.rsplit(".", 1)[-1], replace)
    return root
