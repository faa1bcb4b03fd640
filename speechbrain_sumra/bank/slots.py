"""The languages in memory: which slot of the mixed layers holds which."""

import threading
from collections.abc import Collection, Hashable, Iterator, Sequence
from contextlib import contextmanager
from fnmatch import fnmatch
from weakref import WeakKeyDictionary

import torch
from speechbrain.nnet.adapters import replace_module

from speechbrain_sumra.adapted import (
    DECODER_LINEARS,
    DECODER_NORMS,
    ENCODER_LINEARS,
    ENCODER_NORMS,
)
from speechbrain_sumra.adapter_file import AdapterFileError
from speechbrain_sumra.bank.low_rank import LowRank
from speechbrain_sumra.bank.mixed_batch import (
    MixedEmbedding,
    MixedLayerNorm,
    MixedLinear,
    Rows,
)
from speechbrain_sumra.whisper import Whisper

EMBEDDING = "model.decoder.embed_tokens"
UNADAPTED = 0  # the slot in which nothing is added to the base model


class Slots:
    """Puts mixed layers into a Whisper and keeps the last used languages in them.

    Slots are made as they are needed, up to ``max_resident`` beside that of the
    base model; then the language that was used longest ago gives way. So does one
    that is nowhere else any more.

    Arguments
    ---------
    whisper : Whisper
        The base model. Its layers are replaced, the encoder's as well: some
        languages may adapt these.
    max_resident : int
        Most languages in memory at a time.
    dtype : torch.dtype
        What A and B are kept in.

    Attributes
    ----------
    layers : list of str
        Names of the linear layers that languages may adapt.
    new_id : int
        Id of the token that is each language's own.
    """

    def __init__(self, whisper: Whisper, max_resident: int, dtype: torch.dtype):
        if max_resident < 1:
            raise ValueError(f"max_resident must be at least 1, got {max_resident}.")
        self.max_resident = max_resident
        self.rows = Rows()
        self._linears: dict[str, MixedLinear] = {}
        self._norms: dict[str, MixedLayerNorm] = {}
        for name, module in list(whisper.named_modules()):
            if _matches(name, DECODER_LINEARS + ENCODER_LINEARS):
                # Rank 0 adds nothing, and takes no time.
                rank = 1 if _matches(name, DECODER_LINEARS) else 0
                mixed = MixedLinear(module, self.rows, slots=1, rank=rank, dtype=dtype)
                self._linears[name] = mixed
            elif _matches(name, DECODER_NORMS + ENCODER_NORMS):
                mixed = self._norms[name] = MixedLayerNorm(module, self.rows, slots=1)
            elif name == EMBEDDING:
                mixed = self._embedding = MixedEmbedding(module, self.rows, slots=1)
            else:
                continue
            replace_module(whisper, name, mixed)
        self.layers = list(self._linears)
        self.new_id = self._embedding.new_id
        self._slot_of: WeakKeyDictionary[Hashable, int] = WeakKeyDictionary()
        self._order = threading.Lock()  # of the languages, the last used last
        self._own_down: set[int] = set()

    def __iter__(self):
        """The languages in memory, the last used last; others may come meanwhile."""
        with self._order:
            return iter(list(self._slot_of))

    def choose(self, slots: int | Sequence[int]) -> None:
        """Choose the slot of all rows, or that of each row of the next batch."""
        if isinstance(slots, int):
            self.rows.slots = slots
            self.rows.own_down = slots in self._own_down
            return
        device = self._embedding.weight.device
        own = [row for row, slot in enumerate(slots) if slot in self._own_down]
        self.rows.slots = torch.tensor(slots, device=device)
        self.rows.own_down = torch.tensor(own, device=device) if own else False

    @contextmanager
    def choosing(self, slot: int) -> Iterator[None]:
        """Choose the slot of all rows for a while, then again what was before."""
        before = self.rows.slots, self.rows.own_down
        self.choose(slot)
        try:
            yield
        finally:
            self.rows.slots, self.rows.own_down = before

    def find(self, key: Hashable) -> int | None:
        """The slot of a language, used last from now on; None if it has none."""
        with self._order:
            slot = self._slot_of.pop(key, None)
            if slot is not None:
                self._slot_of[key] = slot
        return slot

    def forget(self, key: Hashable) -> int:
        """Take a language out of its slot, which is returned."""
        with self._order:
            return self._slot_of.pop(key)

    def put(
        self,
        key: Hashable,
        language: LowRank,
        shared_down: dict[str, torch.Tensor],
        pinned: Collection[Hashable] = (),
    ) -> int:
        """Give a language a slot.

        Arguments
        ---------
        key : hashable
            Names the language, for as long as it is in use elsewhere.
        language : LowRank
            What it adds to the base model.
        shared_down : dict of str to torch.Tensor
            By layer, the A that all languages share, shape (r, k), if this one
            has none of its own.
        pinned : collection of hashable
            Languages that must stay in memory, fewer than ``max_resident``.

        Returns
        -------
        int
            The slot.

        Raises
        ------
        AdapterFileError
            If shapes do not fit the base model.
        """
        self.check(language)
        self._fit_rank(language, shared_down)
        slot = self._free_slot(pinned)
        for name, layer in self._linears.items():
            _fill(layer.up[slot], language.up.get(name))
            if layer.own_down is not None:
                _fill(layer.own_down[slot], language.down.get(name))
        for name, norm in self._norms.items():
            for part in ("weight", "bias"):
                values = getattr(norm, part)
                values[slot] = language.norms.get(f"{name}.{part}", values[UNADAPTED])
        if language.new_token is not None:
            self._embedding.new_token[slot] = language.new_token
        self._own_down.discard(slot)
        if language.down:
            self._own_down.add(slot)
        with self._order:
            self._slot_of[key] = slot
        return slot

    def check(self, language: LowRank) -> None:
        """Whether a language's tensors have the base model's shapes.

        Arguments
        ---------
        language : LowRank
            Its tensors may be on the meta device.

        Raises
        ------
        AdapterFileError
            If not; the message names a tensor and both shapes.
        """
        width = self._embedding.new_token.shape[1:]
        pairs = []
        for part, own, axis in (("B", language.up, 0), ("A", language.down, 1)):
            for name, value in own.items():
                layer = self._linears.get(name)
                wanted = layer and (layer.layer.weight.shape[axis],)
                pairs.append((f"{name} ({part})", value.shape[1:], wanted))
        for name, value in language.norms.items():
            known = name.rsplit(".", 1)[0] in self._norms
            pairs.append((name, value.shape, width if known else None))
        if language.new_token is not None:
            pairs.append(("The language token", language.new_token.shape, width))
        for name, found, wanted in pairs:
            if wanted is None:
                raise AdapterFileError(f"{name}: a bank does not adapt this layer.")
            if tuple(found) != tuple(wanted):
                raise AdapterFileError(
                    f"{name} is {tuple(found)} wide, the base model's is "
                    f"{tuple(wanted)}."
                )

    def unadapted_norm(self, name: str) -> torch.Tensor:
        """The base model's value of a norm's weight or bias, by parameter name."""
        layer, part = name.rsplit(".", 1)
        return getattr(self._norms[layer], part)[UNADAPTED]

    def _free_slot(self, pinned: Collection[Hashable]) -> int:
        """A slot that nothing is in, made by growing or by forgetting."""
        number = len(self._embedding.new_token)
        languages = list(self)  # so that none of them goes meanwhile
        free = set(range(1, number)) - set(self._slot_of.values())
        if free:
            return min(free)
        if number <= self.max_resident:
            self._grow(min(2 * number, self.max_resident + 1))
            return number
        return self.forget(next(key for key in languages if key not in pinned))

    def _grow(self, slots: int) -> None:
        for layer in self._linears.values():
            layer.up = _enlarged(layer.up, slots)
            if layer.own_down is not None:
                layer.own_down = _enlarged(layer.own_down, slots)
        for norm in self._norms.values():
            norm.weight = _enlarged(norm.weight, slots)
            norm.bias = _enlarged(norm.bias, slots)
        self._embedding.new_token = _enlarged(self._embedding.new_token, slots)

    def _fit_rank(self, language: LowRank, shared_down) -> None:
        """Room for the language's rank, for A's of their own, and the shared A."""
        for name, layer in self._linears.items():
            rank = len(language.up.get(name, ()))
            if rank > layer.up.shape[1]:
                layer.raise_rank(rank)
            if language.down and layer.own_down is None:
                slots, rows = layer.up.shape[:2]
                layer.own_down = layer.down.new_zeros(slots, rows, layer.down.shape[1])
            if name in shared_down:
                _fill(layer.down, shared_down[name])


def _matches(name: str, patterns: list[str]) -> bool:
    return any(fnmatch(name, pattern) for pattern in patterns)


def _enlarged(tensor: torch.Tensor, slots: int) -> torch.Tensor:
    """Room for more languages; the new ones are as the unadapted one."""
    more = tensor[UNADAPTED].expand(slots - len(tensor), *tensor.shape[1:])
    return torch.cat([tensor, more])


def _fill(target: torch.Tensor, value: torch.Tensor | None) -> None:
    """Write a matrix of this or a lower rank, or zeros."""
    target.zero_()
    if value is not None:
        target[: len(value)] = value
