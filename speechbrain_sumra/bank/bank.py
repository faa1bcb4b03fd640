"""Many languages in one model: add, remove, switch, and mix in one batch."""

import threading
from collections.abc import Sequence, Set
from pathlib import Path

import torch

from speechbrain_sumra.adapter_file import write_adapter
from speechbrain_sumra.bank.catalogue import Catalogue, Kind, Language, naming
from speechbrain_sumra.bank.low_rank import NEW_TOKEN
from speechbrain_sumra.bank.mixing import mix_languages, mixture_name
from speechbrain_sumra.bank.slots import UNADAPTED, Slots
from speechbrain_sumra.data import MAX_SECONDS
from speechbrain_sumra.features import encode_utterance
from speechbrain_sumra.precision import (
    choose_precision,
    keep_frozen_linears_in,
    precision_dtype,
)
from speechbrain_sumra.whisper import Whisper
from speechbrain_sumra.whisper.decoding import GreedySearcher

BATCH = 16


class Bank:
    """One frozen Whisper, one basis, and any number of languages.

    A language is an adapter file.  Files stay on disk until they are used; the
    ``max_resident`` last used stay in memory.  Every row of a batch may have its
    own language: SumRA's ``x A^T`` is one product for all rows, and each takes its
    own B, norms and language token.  LoRA's files, each with an A of its own, work
    beside them, slower.

    ``add`` and ``remove`` may be called while another thread decodes: what has begun
    ends with the languages that it began with.

    Arguments
    ---------
    whisper : str
        The base model: a hub name, a Hugging Face folder or a CTranslate2 folder.
    pretrained_folder, basis_folder : str or Path
        Where base models and bases are kept. A basis that is missing is computed.
    max_resident : int
        Most languages in memory at a time, at least as many as a batch mixes.
    precision : str
        "fp32" (default): a row has exactly the tokens that it would have alone.
        "bf16", "fp16" or "auto" is faster, and rounding may depend on the batch.
    device : str
        Where to compute.
    max_tokens : int
        Longest hypothesis.
    stop_repetition : bool
        End a hypothesis that says a phrase over and over, and keep the phrase once.

    Raises
    ------
    ModelNotFoundError
        If the base model cannot be found.
    ValueError
        If a setting is unusable.
    """

    def __init__(
        self,
        whisper: str = "openai/whisper-base",
        pretrained_folder: str | Path = "runs/pretrained",
        basis_folder: str | Path = "runs/basis",
        max_resident: int = 64,
        precision: str = "fp32",
        device: str = "cpu",
        max_tokens: int = 150,
        stop_repetition: bool = True,
    ):
        self.source = str(whisper)
        self.pretrained_folder = str(pretrained_folder)
        self.basis_folder = Path(basis_folder)
        self.device = torch.device(device)
        self.precision = choose_precision(precision, self.device)
        self.whisper = self._load_base().to(self.device)
        dtype = precision_dtype(self.precision)
        if dtype != torch.float32:
            keep_frozen_linears_in(self.whisper.model, dtype)
        self._slots = Slots(self.whisper, max_resident, dtype)
        self._searcher = GreedySearcher(self.whisper, max_tokens, stop_repetition)
        self._catalogue = Catalogue(
            self.whisper.base_fingerprint,
            self.basis_folder,
            self._load_base,
            self._slots.check,
        )
        self._lock = threading.RLock()

    def _load_base(self) -> Whisper:
        whisper = Whisper(self.source, self.pretrained_folder, "none")
        return whisper.eval().requires_grad_(False)

    @property
    def locales(self) -> list[str]:
        """The languages that can be used, in order of their names."""
        return self._catalogue.locales

    @property
    def resident(self) -> list[str]:
        """Those in memory, the last used last."""
        names = self._catalogue.names
        return [names[language] for language in self._slots if language in names]

    def metadata(self, locale: str) -> dict:
        """What a language's file says of itself.

        Raises
        ------
        UnknownLocaleError
            If it is not in the bank.
        """
        return self._catalogue[locale].metadata

    def add(self, locale: str, file: str | Path) -> None:
        """Add a language, or put another file in the place of one.

        Only the file's header is read now.

        Arguments
        ---------
        locale : str
            Its name in this bank.
        file : str or Path
            An adapter file.

        Raises
        ------
        AdapterFileError
            If the file is damaged, belongs to another base model or basis, or its
            method cannot be used beside others; the message says which.
        """
        self._catalogue.add(locale, file)

    def remove(self, locale: str) -> None:
        """Take a language out of the bank; its file stays.

        Raises
        ------
        UnknownLocaleError
            If it is not in the bank.
        """
        self._catalogue.remove(locale)

    def use(self, locales: str | None | Sequence[str | None]) -> None:
        """Choose the language of all rows, or that of each row of the next batch.

        Arguments
        ---------
        locales : str or None, or sequence of str or None
            One for all batches from now on, or one for each row; None is
            Whisper without an adapter.

        Raises
        ------
        UnknownLocaleError
            If one is not in the bank; the message lists those that are.
        AdapterFileError
            If its file has been damaged or exchanged since it was added.
        ValueError
            If they are more than ``max_resident``.
        """
        if locales is None or isinstance(locales, str):
            locales = [locales]
        with self._lock:
            self._use(self._catalogue.find(locales))

    def _use(self, languages: Sequence[Language | None]) -> None:
        """Choose one slot if all rows are of one language, else that of each."""
        slots = self._load(languages)
        rows = [slots[language] for language in languages]
        self._slots.choose(rows[0] if len(slots) == 1 else rows)

    def prompt(self, locale: str | None) -> list[int]:
        """Tokens that a hypothesis in this language starts with."""
        [language] = self._catalogue.find([locale])
        return self._prompt(language)

    def _prompt(self, language: Language | None) -> list[int]:
        metadata = {"language": "none"} if language is None else language.metadata
        choice = metadata["language"]
        if choice == "none":
            return self.whisper.prompt
        if choice == "new":
            return self.whisper.prompt_with(self._slots.new_id)
        if choice == "own":
            choice = metadata["locale"].split("-")[0]
        return self.whisper.prompt_with(self.whisper.language_token(choice))

    def decode(
        self,
        states: torch.Tensor,
        lengths: torch.Tensor,
        locales: Sequence[str | None],
    ) -> list[list[int]]:
        """Greedy decoding of a batch in which each row has its own language.

        Arguments
        ---------
        states : torch.Tensor
            Encoder states, shape (batch, frames, width).
        lengths : torch.Tensor
            How many of the states belong to each row, shape (batch,).
        locales : sequence of str or None
            The language of each row.

        Returns
        -------
        list of list of int
            Tokens of each row: those that it would get alone.

        Raises
        ------
        UnknownLocaleError, AdapterFileError, ValueError
            As for ``use``.
        """
        return self._decode(states, lengths, self._catalogue.find(locales))

    @torch.no_grad()
    def _decode(self, states, lengths, languages):
        dtype = precision_dtype(self.precision)
        low = dtype != torch.float32
        with self._lock, torch.autocast(self.device.type, dtype, enabled=low):
            prompts = [self._prompt(language) for language in languages]
            self._use(languages)
            return self._searcher(states, lengths, prompts, self._slots.rows.select)

    def encode(self, waveform: torch.Tensor, locale: str | None) -> torch.Tensor:
        """Encoder states of an utterance, as its language was trained on them.

        Arguments
        ---------
        waveform : torch.Tensor
            Mono audio at 16 kHz, at most 30 s, shape (samples,).
        locale : str or None
            Its language.

        Returns
        -------
        torch.Tensor
            Shape (frames, width), float16.

        Raises
        ------
        UnknownLocaleError
            If the language is not in the bank.
        AdapterFileError
            If the language adapts the encoder, and its file has been damaged or
            exchanged since it was added.
        ValueError
            If the waveform is empty, too long, or not finite.
        """
        [language] = self._catalogue.find([locale])
        return self._encode(waveform, language)

    def _encode(self, waveform, language):
        metadata = {} if language is None else language.metadata
        seconds = waveform.numel() / self.whisper.sampling_rate
        if waveform.ndim != 1 or not 0 < seconds <= MAX_SECONDS:
            raise ValueError(
                f"Expected mono audio of at most {MAX_SECONDS:.0f} s, got shape "
                f"{tuple(waveform.shape)} ({seconds:.1f} s). Split longer audio."
            )
        if not torch.isfinite(waveform).all():
            raise ValueError(
                "The audio has values that are NaN or infinite: expected finite "
                "samples. Is the file damaged?"
            )
        context = metadata.get("encoder_context", "full")
        adapts_encoder = metadata.get("adapted_encoder_layers", 0) > 0
        with self._lock:
            slot = self._load([language])[language] if adapts_encoder else UNADAPTED
            with self._slots.choosing(slot):
                return encode_utterance(self.whisper, waveform, self.precision, context)

    def transcribe(
        self,
        waveforms: Sequence[torch.Tensor],
        locales: str | None | Sequence[str | None],
        batch_size: int = BATCH,
    ) -> list[str | Exception]:
        """Texts of some utterances, each in its own language.

        Arguments
        ---------
        waveforms : sequence of torch.Tensor
            Mono audio at 16 kHz, at most 30 s each, shapes (samples,).
        locales : str or None, or sequence of these
            One language for all, or one for each; None is Whisper without an
            adapter.
        batch_size : int
            How many are decoded together; not more than ``max_resident`` if they
            are of more languages than that.

        Returns
        -------
        list of (str or Exception)
            In the order given. What could not be transcribed has its exception in
            its place; the others are not touched by it.

        Raises
        ------
        ValueError
            If there are not as many languages as waveforms.
        """
        if locales is None or isinstance(locales, str):
            locales = [locales] * len(waveforms)
        if len(locales) != len(waveforms):
            raise ValueError(
                f"Expected a language for each of {len(waveforms)} waveforms, got "
                f"{len(locales)}."
            )
        results: list = [None] * len(waveforms)
        states = {}
        # Looked up once: others may add and remove languages meanwhile.
        languages = self._catalogue.here(locales)
        for i, (waveform, locale) in enumerate(zip(waveforms, locales, strict=True)):
            try:
                if locale not in languages:
                    raise self._catalogue.unknown(locale)
                states[i] = self._encode(waveform, languages[locale])
            except ValueError as error:
                results[i] = error
        by_length = sorted(states, key=lambda i: len(states[i]))
        if len(set(locales)) > self._slots.max_resident:
            batch_size = min(batch_size, self._slots.max_resident)
        for first in range(0, len(by_length), batch_size):
            rows = by_length[first : first + batch_size]
            texts = self._texts(
                [states[i] for i in rows], [languages[locales[i]] for i in rows]
            )
            for i, text in zip(rows, texts, strict=True):
                results[i] = text
        return results

    def _texts(self, states, languages):
        """Decoded, as text; row by row if one of the languages fails."""
        lengths = torch.tensor([len(state) for state in states], device=self.device)
        padded = torch.nn.utils.rnn.pad_sequence(states, batch_first=True).float()
        try:
            hypotheses = self._decode(padded, lengths, languages)
        except ValueError as error:
            if len(states) == 1:
                return [error]
            rows = zip(states, languages, strict=True)
            return [self._texts([state], [language])[0] for state, language in rows]
        tokenizer = self.whisper.tokenizer
        texts = tokenizer.batch_decode(hypotheses, skip_special_tokens=True)
        return [text.strip() for text in texts]

    def mix(self, weights: dict[str, float], path: str | Path | None = None) -> str:
        """A language that is a weighted sum of others, added to the bank.

        See ``mix_languages`` for the formula.

        Arguments
        ---------
        weights : dict of str to float
            Weight of each language, e.g. {"hsb": 0.5, "pl": 0.5}.
        path : str or Path
            Write it to this adapter file, too.

        Returns
        -------
        str
            Its name in the bank, e.g. "0.5*hsb+0.5*pl".

        Raises
        ------
        UnknownLocaleError
            If a language is not in the bank.
        AdapterFileError
            If the languages do not share an A, their settings or Whisper's own tokens
            differ, or a file has been damaged or exchanged since it was added.
        """
        languages = self._catalogue.find(list(weights))
        sources = {
            name: language.read()
            for name, language in zip(weights, languages, strict=True)
        }
        metadata, tensors = mix_languages(sources, weights, self._unadapted)
        if path is not None:
            write_adapter(path, metadata, tensors, "fp32")
        name = mixture_name(weights)
        self._catalogue.put(name, languages[0].kind, metadata, tensors)
        return name

    def _unadapted(self, name: str) -> torch.Tensor:
        """The base model's value of a norm or the language token."""
        if name == NEW_TOKEN:
            table = self.whisper.model.decoder.embed_tokens.weight
            known = table[list(self.whisper.language_tokens)]
            return known.mean(dim=0, keepdim=True).cpu()
        return self._slots.unadapted_norm(name).cpu()

    def _load(self, languages: Sequence[Language | None]) -> dict[Language | None, int]:
        """A slot for each of these languages, read from disk if need be."""
        slots = dict.fromkeys(languages, UNADAPTED)
        wanted = slots.keys() - {None}
        if len(wanted) > self._slots.max_resident:
            raise ValueError(
                f"{len(wanted)} languages in one batch, but at most "
                f"{self._slots.max_resident} may be in memory: raise max_resident."
            )
        for language in slots:
            if language is not None:
                slots[language] = self._slot(language, wanted)
        return slots

    def _slot(self, language: Language, pinned: Set[Language]) -> int:
        """The slot of a language, which is read from disk if need be."""
        slot = self._slots.find(language)
        if slot is not None:
            return slot
        with naming(language.path or mixture_name(language.metadata["mixed"])):
            loaded, shared_down = self._catalogue.load(language)
            self._forget_other_down(language.kind)
            return self._slots.put(language, loaded, shared_down, pinned)

    def _forget_other_down(self, kind: Kind) -> None:
        """Forget languages in memory, removed since, whose shared A is another one."""
        for language in self._slots:
            if language.kind.conflict(kind):
                self._slots.forget(language)
