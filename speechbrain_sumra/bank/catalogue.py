"""The languages of a bank: adapter files that fit its base model and its basis."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from speechbrain_sumra.adapted import basis_description
from speechbrain_sumra.adapter_file import AdapterFileError, read_adapter, read_shapes
from speechbrain_sumra.bank.low_rank import LowRank, has_own_down, low_rank
from speechbrain_sumra.basis import Basis, stored_basis
from speechbrain_sumra.fingerprint import fingerprint_rows
from speechbrain_sumra.restore import method_of


class UnknownLocaleError(ValueError):
    """A language that is not in the bank."""


@dataclass(frozen=True, eq=False)
class Language:
    """An entry of a catalogue: a file, or tensors in memory."""

    metadata: dict
    path: Path | None = None
    tensors: dict[str, torch.Tensor] | None = None

    def read(self) -> tuple[dict, dict[str, torch.Tensor]]:
        """Its metadata and tensors, as they are now."""
        if self.path is None:
            return self.metadata, self.tensors
        return read_adapter(self.path)


class Catalogue:
    """Languages by name. Their files are checked when they are added, read when used.

    Arguments
    ---------
    base_fingerprint : str
        Of the base model that files must belong to.
    basis_folder : Path
        Where bases are kept.
    load_base : callable
        Makes the base model, for a basis that is missing.
    check : callable
        Takes a language whose tensors are on the meta device, and raises
        ``AdapterFileError`` if they do not fit the model.
    """

    def __init__(
        self,
        base_fingerprint: str,
        basis_folder: Path,
        load_base: Callable[[], nn.Module],
        check: Callable[[LowRank], None],
    ):
        self.base_fingerprint = base_fingerprint
        self.basis_folder = basis_folder
        self._load_base = load_base
        self._check_shapes = check
        self._languages: dict[str, Language] = {}
        self._bases: dict[str, Basis] = {}
        self._known_kinds: set[str] = set()  # shapes that fit, checked once
        self._shared: dict[str, str] = {}  # fingerprint of each A that rows share
        self._lock = threading.Lock()

    @property
    def locales(self) -> list[str]:
        """The languages' names, in order."""
        return sorted(self._languages)

    @property
    def names(self) -> dict[Language, str]:
        """The name of each language."""
        return {language: name for name, language in self._languages.items()}

    def __getitem__(self, locale: str) -> Language:
        """A language by its name.

        Raises
        ------
        UnknownLocaleError
            If there is none of this name; the message lists those that are.
        """
        try:
            return self._languages[locale]
        except KeyError:
            known = ", ".join(self.locales) or "none yet"
            raise UnknownLocaleError(
                f"Unknown locale {locale!r}; this bank has: {known}."
            ) from None

    def add(self, locale: str, file: str | Path) -> None:
        """Add a file, or put it in the place of one; see ``Bank.add``."""
        metadata, shapes = read_shapes(file)
        with naming(file):
            self._check(metadata, shapes)
        self._languages[locale] = Language(metadata, Path(file))

    def put(
        self, locale: str, metadata: dict, tensors: dict[str, torch.Tensor]
    ) -> None:
        """Add a language that is in memory alone, made of those that are here."""
        self._languages[locale] = Language(metadata, tensors=tensors)

    def remove(self, locale: str) -> None:
        """Take a language out; its file stays."""
        self[locale]
        del self._languages[locale]
        if not self._languages:  # any other may come now
            self._shared.clear()
            self._known_kinds.clear()
            self._bases.clear()

    def load(self, language: Language) -> tuple[LowRank, dict[str, torch.Tensor]]:
        """Read one of the languages.

        Arguments
        ---------
        language : Language
            As it was found by its name.

        Returns
        -------
        language : LowRank
            What it adds to the base model.
        shared_down : dict of str to torch.Tensor
            By layer, the A that it shares with others, shape (r, k); nothing if
            it has A's of its own.

        Raises
        ------
        AdapterFileError
            If its file has been damaged or exchanged since it was added.
        """
        metadata, tensors = language.read()
        if metadata != language.metadata:
            raise AdapterFileError(
                "it is another file than when it was added: add it again."
            )
        for name, value in tensors.items():
            if not value.is_floating_point() or not torch.isfinite(value).all():
                raise AdapterFileError(
                    f"{name} has values that are not finite numbers; the file is "
                    "damaged or its training diverged."
                )
        basis = self._basis(metadata).tensors
        loaded = low_rank(metadata, tensors, basis)
        if loaded.down:
            return loaded, {}
        return loaded, {
            name.removesuffix(".down_proj"): value for name, value in basis.items()
        }

    def _check(self, metadata: dict, shapes: dict) -> None:
        """Whether a file fits base model and basis."""
        base = metadata.get("base_fingerprint")
        if base != self.base_fingerprint:
            raise AdapterFileError(
                f"it does not fit this bank: its base fingerprint is {str(base)[:12]}, "
                f"the bank's is {self.base_fingerprint[:12]}. Make a bank of the base "
                f"model it was trained on ({metadata.get('base_model')})."
            )
        locale = str(metadata.get("locale"))
        if metadata["language"] == "own" and "+" in locale:
            raise AdapterFileError(
                f"it was trained on several languages, {locale}, each with its own "
                "token: a language of a bank has one. Load it by itself (load_adapted)."
            )
        own_down = has_own_down(metadata)
        settings = {name: metadata[name] for name in metadata["settings"]}
        basis, tensors = metadata["basis_fingerprint"], sorted(shapes.items())
        kind = json.dumps([metadata["method"], settings, basis, tensors])
        if kind in self._known_kinds:
            return
        found = self._basis(metadata).tensors
        shared = {} if own_down else found
        shared = {name: fingerprint_rows({"A": a}) for name, a in shared.items()}
        for name, fingerprint in shared.items():
            if self._shared.get(name, fingerprint) != fingerprint:
                raise AdapterFileError(
                    f"it does not fit this bank: its {name} is another one. Its "
                    "rank, strategy or row_norm differs from that of the bank's "
                    "languages: use another bank for it."
                )
        empty = {
            name: torch.empty(shape, device="meta") for name, shape in shapes.items()
        }
        self._check_shapes(low_rank(metadata, empty, found))
        self._known_kinds.add(kind)
        self._shared.update(shared)

    def _basis(self, metadata: dict) -> Basis:
        """The basis that a file names: stored, or computed from the base model."""
        fingerprint = metadata["basis_fingerprint"]
        if fingerprint is None:
            return Basis({}, {})
        with self._lock:
            if fingerprint not in self._bases:
                method, layers = method_of(metadata), metadata["layers"]
                description = basis_description(self.base_fingerprint, method, layers)

                def make():
                    # The bank's own layers may be rounded.
                    return method.make_basis(self._load_base(), layers, description)

                basis, _ = stored_basis(self.basis_folder, description, make)
                if basis.fingerprint != fingerprint:
                    raise AdapterFileError(
                        f"its basis fingerprint is {fingerprint[:12]}, that of the "
                        f"basis in {self.basis_folder} is {basis.fingerprint[:12]}. "
                        "Use the basis file stored beside the adapter."
                    )
                self._bases[fingerprint] = basis
            return self._bases[fingerprint]


@contextmanager
def naming(source: str | Path) -> Iterator[None]:
    """Errors about a file name it."""
    try:
        yield
    except AdapterFileError as error:
        if str(error).startswith(str(source)):
            raise
        raise AdapterFileError(f"{source}: {error}") from error
    except (KeyError, TypeError) as error:
        raise AdapterFileError(
            f"{source} has wrong or missing metadata: {error!r}. Was it written by "
            "another version?"
        ) from error
