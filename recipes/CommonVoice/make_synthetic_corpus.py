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
import json
import random
import shutil
from pathlib import Path
from typing import NamedTuple

import numpy as np
import soundfile
from espeak import EspeakNG
from esperanto_sentences import esperanto_sentences
from scipy.signal import resample_poly
from speechbrain.utils.logger import get_logger
from tqdm import tqdm

logger = get_logger(__name__)

LOCALE = "eo"
SAMPLE_RATE = 16000
SETTINGS_FILE = "synthetic.json"
# Raised when the same settings would make another corpus.
CORPUS_VERSION = 2

# The columns of Common Voice's release 6.1.
COLUMNS = ["client_id", "path", "sentence", "up_votes", "down_votes"]
COLUMNS += ["age", "gender", "accent", "locale", "segment"]

# eSpeak NG's variants of a voice, a speaker each. Those of dev and test are
# not near copies of one in training (some variants differ in pitch only).
# Breathy ones (f2, f3, f5) are left out: they are never the same twice.
_SPEAKERS = {
    "train": "m1 m2 m7 m8 Alex david Denis Lee marcelo michel rob "
    "f1 anika Annie belinda steph",
    "dev": "m5 edward shelby",
    "test": "m3 Reed f4 Andrea",
}
SPEAKERS = {split: names.split() for split, names in _SPEAKERS.items()}
WOMEN = {"f1", "anika", "Annie", "belinda", "steph", "shelby", "f4", "Andrea"}


class Clip(NamedTuple):
    """What is said in one clip, and how."""

    split: str
    name: str  # of the file in clips/
    sentence: str
    variant: str  # eSpeak NG's voice variant: the speaker
    rate: int  # words a minute
    pitch: int  # eSpeak NG's, 0 to 100; 50 is the voice's own


def make_synthetic_corpus(
    data_folder: str | Path,
    num_train: int = 200,
    num_dev: int = 20,
    num_test: int = 40,
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
    for number, (split, sentence) in enumerate(zip(splits, sentences, strict=True)):
        variant = SPEAKERS[split][number % len(SPEAKERS[split])]
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
    noise = np.fft.irfft(spectrum / np.sqrt(np.arange(len(spectrum)) + 50), len(clip))
    level = 10 ** (rng.uniform(-55, -40) / 20)
    return clip + level * noise / noise.std()


def _write_clips(espeak: EspeakNG, clips: list[Clip], folder: Path, seed: int) -> None:
    """Speaks every clip into a WAV file of the folder."""
    for number, clip in enumerate(tqdm(clips, desc="eSpeak NG")):
        speech = espeak.say(clip.sentence, clip.variant, clip.rate, clip.pitch)
        speech = resample_poly(speech, SAMPLE_RATE, espeak.sample_rate)
        # A generator a clip: its noise depends on no other clip.
        speech = add_room(speech, np.random.default_rng([seed, number]))
        soundfile.write(folder / clip.name, speech, SAMPLE_RATE, subtype="PCM_16")


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
            "gender": "female" if clip.variant in WOMEN else "male",
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
    """The command: ``python make_synthetic_corpus.py --help``."""
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
    add = parser.add_argument
    text = "where to put the folder eo/ (for example data/synthetic)"
    add("--data_folder", required=True, default=argparse.SUPPRESS, help=text)
    for split, count in {"train": 200, "dev": 20, "test": 40}.items():
        text = f"sentences in {split}.tsv"
        add(f"--num_{split}", type=int, default=count, help=text)
    add("--seed", type=int, default=1986, help="draws sentences, voices and noise")
    corpus = make_synthetic_corpus(**vars(parser.parse_args(arguments)))
    print(f"Synthetic corpus: {corpus}")


if __name__ == "__main__":
    main()
