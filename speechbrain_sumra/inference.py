"""Transcription in many languages, in the style of SpeechBrain's interfaces."""

import math
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from os import PathLike
from pathlib import Path

import torch
from speechbrain.inference.interfaces import Pretrained
from tqdm import tqdm

from speechbrain_sumra.adapter_file import AdapterFileError, read_metadata
from speechbrain_sumra.adapter_folder import find_adapters
from speechbrain_sumra.audio.audio_file import AudioError, Source, source_name
from speechbrain_sumra.audio.long_audio import AudioSegment, read_segments
from speechbrain_sumra.bank import Bank, UnknownLocaleError

BATCH = 16
# So many batches are read ahead and sorted by length: less padding.
BATCHES_AHEAD = 4
BAR = "{n:.0f} s of speech [{elapsed}{postfix}]"

Locales = str | None | Sequence[str | None]


@dataclass
class Segment:
    """A part of a recording and its text; ``start`` and ``end`` are in seconds."""

    start: float
    end: float
    text: str


@dataclass
class Transcription:
    """What was recognised in a file.

    Attributes
    ----------
    source : str
        The file.
    locale : str or None
        Its language; None is Whisper without an adapter.
    segments : list of Segment
        In order of time; none where nothing can be heard.
    error : str or None
        What went wrong, in words that name the file. Segments are then those that
        could be transcribed.

    Example
    -------
    >>> Transcription("a.mp3", "hsb", [Segment(0, 2, "dobry"), Segment(2, 3, "dźeń")]).text
    'dobry dźeń'
    """  # noqa: E501

    source: str
    locale: str | None
    segments: list[Segment] = field(default_factory=list)
    error: str | None = None

    @property
    def text(self) -> str:
        """The texts of all segments in one line."""
        return " ".join(segment.text for segment in self.segments if segment.text)


class Transcriber(Pretrained):
    """Speech of any length to text, each file in its own language.

    A SpeechBrain interface around a ``Bank``:

    >>> transcriber = Transcriber.from_adapters(
    ...     "runs/sumra_whisper_base/hsb"
    ... )  # doctest: +SKIP
    >>> transcriber.transcribe_file("a.mp3")  # doctest: +SKIP
    'dobry dźeń'

    ``from_hparams`` reads ``hparams/inference.yaml`` instead:

    >>> transcriber = Transcriber.from_hparams(
    ...     source="hparams",
    ...     hparams_file="inference.yaml",
    ...     overrides={"adapters": "runs/sumra_whisper_base/hsb"},
    ... )  # doctest: +SKIP

    Where a method takes ``locales``, they are one language for all, or a list of
    one for each, in which None is Whisper without an adapter.  Left out, they are
    the bank's language, if it has only one.

    Arguments
    ---------
    modules : dict
        None are needed: the bank has its own.
    hparams : dict
        ``bank``, a ``Bank``, and ``adapters``, which is put into it: a file, a
        folder or a list of these.
    run_opts, freeze_params
        As for SpeechBrain's ``Pretrained``.

    Attributes
    ----------
    bank : Bank
        The model and its languages.

    Raises
    ------
    AdapterFileError
        If an adapter does not fit the bank, or two are of one language.
    ValueError
        If ``run_opts`` asks for another device than the bank's.
    """

    HPARAMS_NEEDED = ["bank"]

    def __init__(self, modules=None, hparams=None, run_opts=None, freeze_params=True):
        bank = (hparams or {}).get("bank")
        if bank is not None:
            # Else the parent class would choose for itself.
            chosen = {"device": str(bank.device), "precision": bank.precision}
            hparams = {**hparams, **chosen}
        super().__init__(modules or {}, hparams, run_opts, freeze_params)
        self.bank: Bank = bank
        if self.device != str(bank.device):
            raise ValueError(
                f"run_opts says device {self.device!r}, but the bank is on "
                f"{str(bank.device)!r}: say it where the bank is made, e.g. "
                f"overrides={{'device': {self.device!r}}}."
            )
        for locale, file in _find_all(hparams.get("adapters") or ()).items():
            bank.add(locale, file)

    @classmethod
    def from_adapters(
        cls,
        adapters: str | PathLike | Sequence[str | PathLike] = (),
        whisper: str | None = None,
        locales: Collection[str] | None = None,
        **bank_settings,
    ) -> "Transcriber":
        """A transcriber of adapter files alone.

        Arguments
        ---------
        adapters : str or Path, or sequence of these
            Adapter files, or folders that hold some.
        whisper : str
            The base model: a hub name or a folder. Default: the one that the first
            adapter names.
        locales : collection of str
            Languages to take of what is there; the files of others are not looked
            into. Default: all.
        **bank_settings
            Other arguments of ``Bank``: device, precision, basis_folder, ...

        Raises
        ------
        AdapterFileError
            If a file is damaged or was trained on another base model.
        ModelNotFoundError
            If the base model cannot be found.
        UnknownLocaleError
            If there is no adapter of one of ``locales``.
        """
        files = _find_all(adapters, locales)
        if locales is not None:
            files = {locale: _of(files, locale) for locale in locales}
        if whisper is None:
            whisper = _base_model(files)
        bank = Bank(whisper, **bank_settings)
        return cls(hparams={"bank": bank, "adapters": list(files.values())})

    def transcribe_file(self, path: Source, locale: str | None = None) -> str:
        """The text of one file.

        Arguments
        ---------
        path : str, Path or binary file
            Audio of any length.
        locale : str
            Its language. Default: the bank's only one.

        Raises
        ------
        AudioError
            If the file cannot be read.
        UnknownLocaleError
            If the language is not in the bank.
        """
        [locale] = self._check(locale, 1)
        texts, segments = [], read_segments(path)
        while batch := [segment.samples for segment in islice(segments, BATCH)]:
            texts += _checked(self.bank.transcribe(batch, locale))
        return " ".join(text for text in texts if text)

    def transcribe_batch(
        self, wavs: torch.Tensor, wav_lens: torch.Tensor, locales: Locales = None
    ) -> list[str]:
        """The texts of a padded batch.

        Arguments
        ---------
        wavs : torch.Tensor
            Waveforms at 16 kHz, at most 30 s, shape (batch, samples).
        wav_lens : torch.Tensor
            Their lengths in relation to the longest, shape (batch,).
        locales : str or None, or sequence of these
            Their languages.

        Raises
        ------
        ValueError
            If one of them cannot be transcribed.
        """
        lengths = (wav_lens * wavs.shape[1]).round().int().tolist()
        waveforms = [wav[:length] for wav, length in zip(wavs, lengths, strict=True)]
        locales = self._check(locales, len(waveforms))
        return _checked(self.bank.transcribe(waveforms, locales))

    def forward(self, wavs, wav_lens, locales=None):
        """Runs ``transcribe_batch``."""
        return self.transcribe_batch(wavs, wav_lens, locales)

    def transcribe_files(
        self,
        paths: Sequence[Source],
        locales: Locales = None,
        progress: bool = True,
        batch_size: int = BATCH,
        max_seconds: float = math.inf,
    ) -> list[Transcription]:
        """The texts of files of any length and number.

        Segments of all files are decoded together. A file that cannot be read has
        its ``error``, and the others are transcribed.

        Arguments
        ---------
        paths : sequence of str, Path or binary file
            The files.
        locales : str or None, or sequence of these
            Their languages.
        progress : bool
            Show a progress bar on stderr.
        batch_size : int
            Segments that are decoded at a time.
        max_seconds : float
            A longer file has an error, and is read no further.

        Returns
        -------
        list of Transcription
            One for each file.

        Raises
        ------
        UnknownLocaleError
            If a language is not in the bank.
        """
        return list(
            self.stream_files(paths, locales, progress, batch_size, max_seconds)
        )

    def stream_files(
        self,
        paths: Sequence[Source],
        locales: Locales = None,
        progress: bool = True,
        batch_size: int = BATCH,
        max_seconds: float = math.inf,
    ) -> Iterator[Transcription]:
        """As ``transcribe_files``, but each file is yielded when it is done.

        In the order of the files; ``BATCHES_AHEAD`` batches are in memory at most.
        """
        locales = self._check(locales, len(paths))
        results = [
            Transcription(source_name(path), locale)
            for path, locale in zip(paths, locales, strict=True)
        ]
        read: list[Transcription] = []  # to the end, but not yet yielded

        def segments():
            for path, result in zip(paths, results, strict=True):
                try:
                    for segment in read_segments(path, max_seconds):
                        yield result, segment
                except AudioError as error:
                    result.error = str(error)
                read.append(result)

        stream, size = segments(), batch_size * BATCHES_AHEAD
        with tqdm(bar_format=BAR, disable=not progress) as bar:
            done = 0
            while done < len(results):
                ahead = sorted(islice(stream, size), key=_length)
                for first in range(0, len(ahead), batch_size):
                    batch = ahead[first : first + batch_size]
                    self._transcribe_segments(batch)
                    bar.update(sum(segment.end - segment.start for _, segment in batch))
                for result in read:
                    result.segments.sort(key=lambda segment: segment.start)
                done += len(read)
                bar.set_postfix(files=f"{done}/{len(results)}")
                bar.clear()  # whoever takes the results may write them
                yield from read
                read.clear()

    def _transcribe_segments(
        self, batch: list[tuple[Transcription, AudioSegment]]
    ) -> None:
        """Put the texts of some segments into the transcriptions of their files."""
        texts = self.bank.transcribe(
            [segment.samples for _, segment in batch],
            [result.locale for result, _ in batch],
            batch_size=len(batch),
        )
        for (result, segment), text in zip(batch, texts, strict=True):
            if isinstance(text, Exception):
                result.error = f"{result.source}: {text}"
            else:
                result.segments.append(Segment(segment.start, segment.end, text))

    def _check(self, locales: Locales, number: int) -> list[str | None]:
        """A language for each of so many inputs, all of them in the bank."""
        known = self.bank.locales
        if locales is None:
            if len(known) != 1:
                raise UnknownLocaleError(
                    "Expected a locale: this bank has no single one but "
                    f"{', '.join(known) or 'none'}."
                )
            locales = known[0]
        if isinstance(locales, str):
            locales = [locales] * number
        if len(locales) != number:
            raise ValueError(
                f"Expected a locale for each of {number} inputs, got {len(locales)}."
            )
        for locale in locales:
            if locale is not None:
                self.bank.metadata(locale)
        return list(locales)


def _length(item: tuple[Transcription, AudioSegment]) -> int:
    return len(item[1].samples)


def _checked(texts: list[str | Exception]) -> list[str]:
    """The texts, if all of them are."""
    for text in texts:
        if isinstance(text, Exception):
            raise text
    return texts


def _find_all(
    adapters: str | PathLike | Sequence[str | PathLike],
    wanted: Collection[str] | None = None,
) -> dict[str, Path]:
    """The adapter files at some places, by locale; of those wanted one each."""
    if isinstance(adapters, (str, PathLike)):
        adapters = [adapters]
    found: dict[str, Path] = {}
    for place in adapters:
        for locale, file in find_adapters(place, wanted).items():
            is_other = found.setdefault(locale, file) != file
            if is_other and (wanted is None or locale in wanted):
                raise AdapterFileError(
                    f"Two adapters of {locale!r}: {found[locale]} and {file}. Name "
                    "one of them."
                )
    return found


def _of(files: dict[str, Path], locale: str) -> Path:
    """The file of one language."""
    if locale not in files:
        raise UnknownLocaleError(
            f"Unknown locale {locale!r}; there are adapters of: "
            f"{', '.join(files) or 'none'}."
        )
    return files[locale]


def _base_model(files: dict[str, Path]) -> str:
    """What the first of some adapter files was trained on."""
    if not files:
        raise ValueError("Expected adapters, or a base model (whisper); got neither.")
    file = next(iter(files.values()))
    source = read_metadata(file).get("base_model")
    if source is None:
        raise AdapterFileError(f"{file} names no base model: name one (whisper).")
    return source
