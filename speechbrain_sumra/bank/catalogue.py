"""The languages of a bank: adapter files that fit its base model and its basis."""

import json
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from speechbrain_sumra.adapted import basis_description
from speechbrain_sumra.adapter_file import AdapterFileError, read_adapter, read_shapes
from speechbrain_sumra.bank.low_rank import LowRank, low_rank
from speechbrain_sumra.basis import Basis, BasisError, stored_basis
from speechbrain_sumra.fingerprint import fingerprint_rows
from speechbrain_sumra.restore import method_of


class UnknownLocaleError(ValueError):
    """A language that is not in the bank."""


@dataclass(frozen=True, eq=False)
class Kind:
    """What languages of one method, with the same settings and shapes, have in common.

    Attributes
    ----------
    key : str
        Method, seed, settings, layers, basis and shapes, as text.
    basis : Basis
        Without tensors if the method has none.
    shared : dict of str to str
        By layer, the fingerprint of the A that rows share; empty if each language
        has its own.
    """

    key: str
    basis: Basis
    shared: dict[str, str]

    def conflict(self, other: "Kind") -> str | None:
        """A layer in which both share an A with others, and not the same one."""
        if self is other:
            return None
        for name, fingerprint in self.shared.items():
            if other.shared.get(name, fingerprint) != fingerprint:
                return name
        return None


@dataclass(frozen=True, eq=False)
class Language:
    """An entry of a catalogue: a file, or tensors in memory."""

    metadata: dict
    kind: Kind
    path: Path | None = None
    tensors: dict[str, torch.Tensor] | None = None

    def read(self) -> tuple[dict, dict[str, torch.Tensor]]:
        """Its metadata and tensors.

        Raises
        ------
        AdapterFileError
            If its file has been damaged or exchanged since it was added.
        """
        if self.path is None:
            return self.metadata, self.tensors
        metadata, tensors = read_adapter(self.path)
        if metadata != self.metadata:
            raise AdapterFileError(
                f"{self.path}: it is another file than when it was added: add it again."
            )
        return metadata, tensors


class Catalogue:
    """Languages by name. Their files are checked when they are added, read when used.

    All threads may use it. What takes long, a basis above all, is not done under the
    lock.

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
        self._kinds: dict[str, Kind] = {}  # of these languages, by key
        self._lock = threading.RLock()
        # Drawing a basis takes the random state that all threads have.
        self._making_basis = threading.Lock()

    @property
    def locales(self) -> list[str]:
        """The languages' names, in order."""
        with self._lock:
            return sorted(self._languages)

    @property
    def names(self) -> dict[Language, str]:
        """The name of each language."""
        with self._lock:
            return {language: name for name, language in self._languages.items()}

    def here(self, locales: Iterable[str | None]) -> dict[str | None, Language | None]:
        """Those of some names that there are, as they are at one moment; None is None.

        So they share one A, whatever is added and removed by others.
        """
        with self._lock:
            here = {name: self._languages.get(name) for name in locales}
        return {name: here[name] for name in here if name is None or here[name]}

    def find(self, locales: Sequence[str | None]) -> list[Language | None]:
        """Languages by their names, as they are at one moment; None is None.

        Raises
        ------
        UnknownLocaleError
            If there is none of a name; the message lists those that are.
        """
        here = self.here(locales)
        for locale in locales:
            if locale not in here:
                raise self.unknown(locale)
        return [here[locale] for locale in locales]

    def __getitem__(self, locale: str) -> Language:
        """A language by its name; see ``find``."""
        [language] = self.find([locale])
        return language

    def unknown(self, locale: str) -> UnknownLocaleError:
        """The error about a name that is not here."""
        known = ", ".join(self.locales) or "none yet"
        return UnknownLocaleError(f"Unknown locale {locale!r}; this bank has: {known}.")

    def add(self, locale: str, file: str | Path) -> None:
        """Add a file, or put it in the place of one; see ``Bank.add``."""
        metadata, shapes = read_shapes(file)
        with naming(file):
            kind = self._kind(metadata, shapes)
            self._insert(locale, kind, metadata, path=Path(file))

    def put(
        self, locale: str, kind: Kind, metadata: dict, tensors: dict[str, torch.Tensor]
    ) -> None:
        """Add a language that is in memory alone, made of those of a kind."""
        with naming(locale):
            self._insert(locale, kind, metadata, tensors=tensors)

    def remove(self, locale: str) -> None:
        """Take a language out; its file stays."""
        with self._lock:
            self[locale]
            del self._languages[locale]
            self._forget_kinds()

    def _insert(self, locale: str, kind: Kind, metadata: dict, **contents) -> None:
        """Put a language in its place, if it shares A with the others."""
        with self._lock:
            if kind.key not in self._kinds:
                self._check_shared(locale, kind)
            kind = self._kinds.setdefault(kind.key, kind)
            before = self._languages.get(locale)
            self._languages[locale] = Language(metadata, kind, **contents)
            if before is not None and before.kind is not kind:
                self._forget_kinds()

    def _check_shared(self, locale: str, kind: Kind) -> None:
        """Whether a new kind shares its A with all languages but the one replaced."""
        others = {
            other.kind for name, other in self._languages.items() if name != locale
        }
        for other in others:
            if name := kind.conflict(other):
                raise AdapterFileError(
                    f"it does not fit this bank: its {name} is another one. Its "
                    "rank, strategy or row_norm differs from that of the bank's "
                    "languages: use another bank for it."
                )

    def _forget_kinds(self) -> None:
        """Forget the kinds, and with them the bases, that no language is of."""
        used = {language.kind for language in self._languages.values()}
        self._kinds = {kind.key: kind for kind in used}

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
        for name, value in tensors.items():
            if not value.is_floating_point() or not torch.isfinite(value).all():
                raise AdapterFileError(
                    f"{name} has values that are not finite numbers; the file is "
                    "damaged or its training diverged."
                )
        basis = language.kind.basis.tensors
        loaded = low_rank(metadata, tensors, basis)
        if loaded.down:
            return loaded, {}
        return loaded, {
            name.removesuffix(".down_proj"): value for name, value in basis.items()
        }

    def _kind(self, metadata: dict, shapes: dict) -> Kind:
        """The kind of a file that fits the base model."""
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
        settings = {name: metadata[name] for name in metadata["settings"]}
        names = ("method", "seed", "layers", "basis_fingerprint")
        made_by = [metadata.get(name) for name in names]
        key = json.dumps([made_by, settings, sorted(shapes.items())])
        with self._lock:
            if key in self._kinds:  # checked when the first of it came
                return self._kinds[key]
        empty = {
            name: torch.empty(shape, device="meta") for name, shape in shapes.items()
        }
        # Before a basis is made of what the file names: its own tensors fit.
        own = low_rank(metadata, empty, {})
        self._check_shapes(own)
        if sorted(own.up) != sorted(metadata["layers"]):
            raise AdapterFileError(
                f"it names {len(metadata['layers'])} adapted layers and has B of "
                f"{len(own.up)}, or of others. It is damaged or was altered: take "
                "another copy."
            )
        found = self._basis(metadata)
        whole = low_rank(metadata, empty, found.tensors)
        self._check_shapes(whole)
        shared = {} if whole.down else found.tensors  # as in load
        shared = {name: fingerprint_rows({"A": a}) for name, a in shared.items()}
        return Kind(key, found, shared)

    def _basis(self, metadata: dict) -> Basis:
        """The basis that a file names: stored, or computed from the base model."""
        # What a file asks for is refused whether or not its basis is known.
        method, layers = method_of(metadata), metadata["layers"]
        fingerprint = metadata["basis_fingerprint"]
        if fingerprint is None:
            return Basis({}, {})
        with self._lock:
            for kind in self._kinds.values():
                if kind.basis.fingerprint == fingerprint:
                    return kind.basis
        description = basis_description(self.base_fingerprint, method, layers)

        def make():
            # The bank's own layers may be rounded.
            return method.make_basis(self._load_base(), layers, description)

        with self._making_basis:
            basis, _ = stored_basis(self.basis_folder, description, make)
        if basis.fingerprint != fingerprint:
            raise AdapterFileError(
                f"its basis fingerprint is {fingerprint[:12]}, that of the "
                f"basis in {self.basis_folder} is {basis.fingerprint[:12]}. "
                "Use the basis file stored beside the adapter."
            )
        return basis


@contextmanager
def naming(source: str | Path) -> Iterator[None]:
    """Errors about a file name it."""
    try:
        yield
    except AdapterFileError as error:
        if str(error).startswith(str(source)):
            raise
        raise AdapterFileError(f"{source}: {error}") from error
    except BasisError:
        raise
    except ValueError as error:
        raise AdapterFileError(f"{source}: {error}") from error
    except (ArithmeticError, AttributeError, KeyError, TypeError) as error:
        raise AdapterFileError(
            f"{source} has wrong or missing metadata: {error!r}. Was it written by "
            "another version?"
        ) from error
