"""Makes a small synthetic Esperanto corpus in Common Voice's layout.

It lets one run the whole recipe without a download. The sentences come from
the grammar in `esperanto_sentences.py`, the speech from the eSpeak NG
synthesiser, whose library and data are the pip package `espeakng-loader`.
Synthetic speech is far easier than people's: error rates measured on it say
that the recipe works and nothing about Esperanto. Real Common Voice, read by
volunteers, comes from https://commonvoice.mozilla.org.

The result is `<data_folder>/eo/` with `train.tsv`, `dev.tsv`, `test.tsv`,
`validated.tsv` and `clips/*.wav` (16 kHz, mono, 16 bits). No sentence occurs
twice, and no voice speaks in two splits.
"""

import argparse
import ctypes
import json
import random
import shutil
from pathlib import Path
from typing import NamedTuple

import numpy as np
import soundfile
from esperanto_sentences import esperanto_sentences
from scipy.signal import resample_poly
from tqdm import tqdm

from speechbrain.utils.logger import get_logger

logger = get_logger(__name__)

LOCALE = "eo"
SAMPLE_RATE = 16000
SETTINGS_FILE = "synthetic.json"
# Raised when the same settings would make another corpus.
CORPUS_VERSION = 1

# The columns of Common Voice's release 6.1.
COLUMNS = [
    "client_id", "path", "sentence", "up_votes", "down_votes",
    "age", "gender", "accent", "locale", "segment",
]  # fmt: skip

# eSpeak NG's variants of a voice, a speaker each. Those of dev and test are
# not near copies of one in training (some variants differ in pitch only).
# Breathy ones (f2, f3, f5) are left out: they are never the same twice.
SPEAKERS = {
    "train": {
        "m1": "male", "m2": "male", "m7": "male", "m8": "male",
        "Alex": "male", "david": "male", "Denis": "male", "Lee": "male",
        "marcelo": "male", "michel": "male", "rob": "male", "f1": "female",
        "anika": "female", "Annie": "female", "belinda": "female",
        "steph": "female",
    },
    "dev": {"m5": "male", "edward": "male", "shelby": "female"},
    "test": {
        "m3": "male", "Reed": "male", "f4": "female", "Andrea": "female",
    },
}  # fmt: skip


class Clip(NamedTuple):
    """What is said in one clip, and how.

    Arguments
    ---------
    split: str
        `train`, `dev` or `test`.
    name: str
        The file's name in `clips/`.
    sentence: str
        The transcript.
    variant: str
        eSpeak NG's voice variant: the speaker.
    rate: int
        Words a minute.
    pitch: int
        eSpeak NG's pitch, 0 to 100; 50 is the voice's own.
    """

    split: str
    name: str
    sentence: str
    variant: str
    rate: int
    pitch: int


class EspeakNG:
    """The eSpeak NG library, speaking one language into arrays.

    The library keeps its state per process, so use one object at a time, as
    a context manager. In a fresh process the same calls give the same
    samples; later in a process they differ by a hair, as the library's own
    slow variations of the voice run on.

    Arguments
    ---------
    language: str
        One of eSpeak NG's languages.

    Raises
    ------
    ImportError
        If the package `espeakng_loader` is missing.
    RuntimeError
        If the library does not find its data.

    Example
    -------
    >>> with EspeakNG("eo") as espeak:
    ...     samples = espeak.say("Saluton al ĉiuj!", "m3", rate=150, pitch=50)
    ...     espeak.sample_rate
    22050
    >>> samples.dtype, bool(abs(samples).max() <= 1)
    (dtype('float32'), True)
    """

    # Values of speak_lib.h, whose names they keep.
    AUDIO_OUTPUT_SYNCHRONOUS = 2
    INITIALIZE_DONT_EXIT = 0x8000
    CHARS_UTF8 = 1
    RATE, PITCH = 1, 3

    # int callback(short *wav, int numsamples, espeak_EVENT *events)
    CALLBACK = ctypes.CFUNCTYPE(
        ctypes.c_int,
        ctypes.POINTER(ctypes.c_short),
        ctypes.c_int,
        ctypes.c_void_p,
    )

    def __init__(self, language: str = LOCALE):
        try:
            import espeakng_loader
        except ImportError as error:
            raise ImportError(
                "Synthetic speech needs eSpeak NG, which is not installed. "
                'Run: pip install "speechbrain-sumra[offline]"'
            ) from error
        self.language = language
        self.data = Path(espeakng_loader.get_data_path())
        self.lib = ctypes.CDLL(espeakng_loader.get_library_path())
        self._declare()
        self.sample_rate = self.lib.espeak_Initialize(
            self.AUDIO_OUTPUT_SYNCHRONOUS,
            0,
            str(self.data).encode(),
            self.INITIALIZE_DONT_EXIT,
        )
        if self.sample_rate <= 0:
            raise RuntimeError(
                f"eSpeak NG does not start with its data in {self.data} "
                f"({len(str(self.data))} characters). It cuts paths longer "
                "than about 150 characters: if this one is, use a virtual "
                "environment in a shorter folder."
            )
        self._chunks: list[bytes] = []
        # Kept here, or it would be collected while the library calls it.
        self._callback = self.CALLBACK(self._receive)
        self.lib.espeak_SetSynthCallback(self._callback)

    def _declare(self) -> None:
        """Tells ctypes the signatures, as they stand in speak_lib.h."""
        c_int, c_uint, c_char_p = ctypes.c_int, ctypes.c_uint, ctypes.c_char_p
        signatures = {
            # output, buflength, path, options -> sampling rate
            "espeak_Initialize": [c_int, c_int, c_char_p, c_int],
            "espeak_SetSynthCallback": [self.CALLBACK],
            "espeak_SetVoiceByName": [c_char_p],
            # parameter, value, relative
            "espeak_SetParameter": [c_int, c_int, c_int],
            # text, size, position, position_type, end_position, flags,
            # unique_identifier, user_data
            "espeak_Synth": [
                c_char_p, ctypes.c_size_t, c_uint, c_int, c_uint, c_uint,
                ctypes.POINTER(c_uint), ctypes.c_void_p,
            ],
            "espeak_Terminate": [],
        }  # fmt: skip
        for name, argtypes in signatures.items():
            function = getattr(self.lib, name)
            function.argtypes, function.restype = argtypes, c_int

    def _receive(self, samples, count: int, events) -> int:
        """Keeps a chunk of speech; 0 tells the library to go on."""
        if samples and count > 0:
            self._chunks.append(ctypes.string_at(samples, 2 * count))
        return 0

    def say(self, text: str, variant: str, rate: int, pitch: int) -> np.ndarray:
        """Speaks a sentence.

        Arguments
        ---------
        text: str
            The sentence.
        variant: str
            The voice variant, such as `m3` or `f2`.
        rate: int
            Words a minute, 80 to 450.
        pitch: int
            0 to 100; 50 is the voice's own.

        Returns
        -------
        numpy.ndarray
            The samples, float32 between -1 and 1, at `sample_rate`.

        Raises
        ------
        ValueError
            If eSpeak NG has no such variant or language.
        RuntimeError
            If nothing was spoken.
        """
        voice = f"{self.language}+{variant}"
        # The library takes an unknown variant for the plain voice, silently.
        known = (self.data / "voices" / "!v" / variant).is_file()
        if not known or self.lib.espeak_SetVoiceByName(voice.encode()) != 0:
            raise ValueError(f"eSpeak NG has no voice {voice!r}.")
        self.lib.espeak_SetParameter(self.RATE, rate, 0)
        self.lib.espeak_SetParameter(self.PITCH, pitch, 0)
        self._chunks.clear()
        encoded = text.encode()
        status = self.lib.espeak_Synth(
            encoded, len(encoded) + 1, 0, 0, 0, self.CHARS_UTF8, None, None
        )
        if status != 0 or not self._chunks:
            raise RuntimeError(
                f"eSpeak NG spoke nothing (status {status}) for {text!r}."
            )
        samples = np.frombuffer(b"".join(self._chunks), dtype=np.int16)
        return samples.astype(np.float32) / 32768

    def __enter__(self) -> "EspeakNG":
        return self

    def __exit__(self, *exception) -> None:
        self.lib.espeak_Terminate()


def make_synthetic_corpus(
    data_folder: str | Path,
    num_train: int = 240,
    num_dev: int = 24,
    num_test: int = 48,
    seed: int = 1986,
) -> Path:
    """Makes a synthetic Esperanto corpus, or returns the one made before.

    It is written to a folder beside and renamed at the end, so that `eo/` is
    either complete or absent. A corpus made here with other settings is
    replaced; any other folder of that name is left alone.

    Arguments
    ---------
    data_folder: str or Path
        The folder to put `eo/` in, as one unpacks Common Voice.
    num_train: int
        Training sentences. Their number does not change dev and test.
    num_dev: int
        Validation sentences.
    num_test: int
        Test sentences.
    seed: int
        Draws the sentences, voices and noise. The same seed gives the same
        tables; see `EspeakNG` for the samples.

    Returns
    -------
    Path
        The folder `<data_folder>/eo`.

    Raises
    ------
    ValueError
        If a split would be empty or the grammar has too few sentences.
    FileExistsError
        If `<data_folder>/eo` exists and was not made here.
    ImportError
        If eSpeak NG is not installed.

    Example
    -------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     corpus = make_synthetic_corpus(folder, 4, 1, 2)
    ...     sorted(path.name for path in corpus.iterdir())
    ['clips', 'dev.tsv', 'synthetic.json', 'test.tsv', 'train.tsv', 'validated.tsv']
    """
    counts = {"train": num_train, "dev": num_dev, "test": num_test}
    for split, count in counts.items():
        if count < 1:
            raise ValueError(f"{split} needs at least 1 sentence, not {count}.")
    settings = {"version": CORPUS_VERSION, "seed": seed, **counts}

    corpus = Path(data_folder) / LOCALE
    if corpus.exists():
        if _settings_of(corpus) == settings:
            logger.info(f"Synthetic corpus found in {corpus}.")
            return corpus
        logger.warning(f"{corpus} has other settings and will be replaced.")

    clips = plan_clips(counts, seed)
    unfinished = corpus.with_name(f".{LOCALE}.synthetic.unfinished")
    with EspeakNG(LOCALE) as espeak:
        shutil.rmtree(unfinished, ignore_errors=True)
        (unfinished / "clips").mkdir(parents=True)
        _write_clips(espeak, clips, unfinished / "clips", seed)
    for split in counts:
        chosen = [clip for clip in clips if clip.split == split]
        _write_tsv(unfinished / f"{split}.tsv", chosen)
    _write_tsv(unfinished / "validated.tsv", clips)
    _write_settings(unfinished / SETTINGS_FILE, settings)

    if corpus.exists():
        shutil.rmtree(corpus)
    unfinished.rename(corpus)
    logger.info(f"Synthetic corpus of {len(clips)} clips made in {corpus}.")
    return corpus


def plan_clips(counts: dict[str, int], seed: int) -> list[Clip]:
    """Draws what is said, and by whom, before anything is spoken.

    Arguments
    ---------
    counts: dict of str to int
        The number of sentences of `train`, `dev` and `test`.
    seed: int
        The source of every choice.

    Returns
    -------
    list of Clip
        The clips of test, dev and train, in this order.

    Example
    -------
    >>> clips = plan_clips({"train": 2, "dev": 1, "test": 1}, seed=1986)
    >>> [clip.split for clip in clips]
    ['test', 'dev', 'train', 'train']
    """
    rng = random.Random(seed)
    # A speaker has a pace and a pitch; a clip varies a little around them.
    habits = {
        variant: (rng.randint(130, 165), rng.randint(38, 62))
        for speakers in SPEAKERS.values()
        for variant in speakers
    }
    # Test and dev come first, so that a larger training set keeps them.
    splits = [s for s in ("test", "dev", "train") for _ in range(counts[s])]
    sentences = esperanto_sentences(len(splits), rng)
    clips = []
    for number, (split, sentence) in enumerate(zip(splits, sentences)):
        speakers = list(SPEAKERS[split])
        variant = speakers[number % len(speakers)]
        rate, pitch = habits[variant]
        clips.append(
            Clip(
                split,
                f"synthetic_{LOCALE}_{number:06d}.wav",
                sentence,
                variant,
                rate + rng.randint(-10, 10),
                pitch + rng.randint(-5, 5),
            )
        )
    return clips


def add_room(speech: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Makes synthetic speech less sterile: pauses, loudness and noise.

    Arguments
    ---------
    speech: numpy.ndarray
        Samples at 16 kHz, one dimension.
    rng: numpy.random.Generator
        The source of the choices.

    Returns
    -------
    numpy.ndarray
        The speech with a peak of 0.3 to 0.9, pauses of 0.1 to 0.4 s around
        it, and pink noise of -55 to -40 dB below full scale over it all.

    Example
    -------
    >>> clip = add_room(np.ones(16000), np.random.default_rng(0))
    >>> bool(19200 <= len(clip) <= 28800), bool(abs(clip).max() < 1)
    (True, True)
    """
    before, after = rng.integers(SAMPLE_RATE // 10, 4 * SAMPLE_RATE // 10, 2)
    gain = rng.uniform(0.3, 0.9) / max(np.abs(speech).max(), 1e-6)
    clip = np.pad(gain * speech, (before, after))
    # White noise whose power falls with the frequency, as a room's does.
    spectrum = np.fft.rfft(rng.standard_normal(len(clip)))
    noise = np.fft.irfft(
        spectrum / np.sqrt(np.arange(len(spectrum)) + 50), len(clip)
    )
    level = 10 ** (rng.uniform(-55, -40) / 20)
    return clip + level * noise / noise.std()


def _write_clips(
    espeak: EspeakNG, clips: list[Clip], folder: Path, seed: int
) -> None:
    """Speaks every clip into a WAV file of the folder."""
    for number, clip in enumerate(tqdm(clips, desc="eSpeak NG")):
        speech = espeak.say(clip.sentence, clip.variant, clip.rate, clip.pitch)
        speech = resample_poly(speech, SAMPLE_RATE, espeak.sample_rate)
        # A generator a clip: its noise depends on no other clip.
        speech = add_room(speech, np.random.default_rng([seed, number]))
        path = folder / clip.name
        soundfile.write(path, speech, SAMPLE_RATE, subtype="PCM_16")


def _write_tsv(path: Path, clips: list[Clip]) -> None:
    """Writes one of Common Voice's tables; nothing in it is quoted."""
    lines = ["\t".join(COLUMNS)]
    for clip in clips:
        fields = {
            "client_id": f"synthetic-{clip.variant}",
            "path": clip.name,
            "sentence": clip.sentence,
            "up_votes": "2",
            "down_votes": "0",
            "gender": SPEAKERS[clip.split][clip.variant],
            "locale": LOCALE,
        }
        lines.append("\t".join(fields.get(column, "") for column in COLUMNS))
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _write_settings(path: Path, settings: dict[str, int]) -> None:
    """Leaves the mark by which a finished corpus is known again."""
    mark = {
        "about": "Synthetic speech by eSpeak NG, not Common Voice.",
        "settings": settings,
    }
    path.write_text(json.dumps(mark, indent=2) + "\n", encoding="utf-8")


def _settings_of(corpus: Path) -> dict[str, int]:
    """Reads the settings of a corpus made here; refuses any other folder."""
    try:
        mark = json.loads((corpus / SETTINGS_FILE).read_text(encoding="utf-8"))
        return dict(mark["settings"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise FileExistsError(
            f"{corpus} exists and is no synthetic corpus (it has no valid "
            f"{SETTINGS_FILE}), so it is left as it is. Choose another "
            "data_folder, or move that folder away."
        ) from error


def main(arguments: list[str] | None = None) -> None:
    """Makes the corpus from the command line.

    Arguments
    ---------
    arguments: list of str, optional
        The command's arguments; those of the process if not given.
    """
    parser = argparse.ArgumentParser(
        description="Make a small SYNTHETIC Esperanto corpus in Common "
        "Voice's layout, to try the recipe without a download.",
        epilog="The sentences come from a small grammar and the speech from "
        "the eSpeak NG synthesiser, so error rates on this corpus show that "
        "the recipe works and nothing more. Real speech: download Common "
        "Voice from https://commonvoice.mozilla.org and unpack it, so that "
        "DATA_FOLDER/eo/train.tsv exists.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument(
        "--data_folder",
        required=True,
        default=argparse.SUPPRESS,
        help="where to put the folder eo/ (for example data/synthetic)",
    )
    for split, count in (("train", 240), ("dev", 24), ("test", 48)):
        parser.add_argument(
            f"--num_{split}",
            type=int,
            default=count,
            help=f"sentences in {split}.tsv",
        )
    parser.add_argument(
        "--seed",
        type=int,
        default=1986,
        help="draws sentences, voices and noise",
    )
    corpus = make_synthetic_corpus(**vars(parser.parse_args(arguments)))
    print(f"Synthetic corpus: {corpus}")


if __name__ == "__main__":
    main()
