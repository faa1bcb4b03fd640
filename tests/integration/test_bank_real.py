"""A bank on the real whisper-base and real speech of several languages."""

import pytest
import torch
from languages import Languages

from speechbrain_sumra.bank import Bank
from speechbrain_sumra.data import read_audio
from speechbrain_sumra.peft_adapters import PeftAdapters
from speechbrain_sumra.whisper.decoding import GreedySearcher

pytestmark = pytest.mark.real
SETTINGS = {
    "hsb": {"context": "clip"},
    "eo": {"context": "clip", "language": "none"},
    "ia": {"context": "full", "language": "italian"},
    "fy-NL": {"context": "clip", "train_norms": False},
}


@pytest.fixture(scope="module")
def languages(whisper_base, tmp_path_factory):
    return Languages(tmp_path_factory.mktemp("bank"), whisper_base, std=0.01)


@pytest.fixture(scope="module")
def files(languages):
    """Adapters, and the models they are of."""
    return {
        name: languages.make(name, seed, rank=8, **settings)
        for seed, (name, settings) in enumerate(SETTINGS.items())
    }


@pytest.fixture(scope="module")
def bank(languages, files):
    bank = Bank(languages.source, **languages.places, max_tokens=25)
    for name, file in files.items():
        bank.add(name, file)
    lora = {"method": PeftAdapters, "context": "clip"}
    bank.add("lora", languages.make("lora", 9, **lora))
    return bank


@pytest.fixture(scope="module")
def clips(real_speech):
    """Two clips of each language."""
    found = []
    for name in SETTINGS:
        paths = sorted((real_speech / name / "clips").iterdir())[:2]
        found += [(name, read_audio(str(path))) for path in paths]
    return found


def test_a_mixed_batch_of_real_speech_gives_what_each_row_gets_alone(bank, clips):
    locales = [name for name, _ in clips] + [None, "lora"]
    waveforms = [wav for _, wav in clips] + [clips[0][1], clips[0][1]]
    together = bank.transcribe(waveforms, locales)
    alone = [
        bank.transcribe([wav], [name])[0]
        for wav, name in zip(waveforms, locales, strict=True)
    ]
    assert together == alone
    assert all(isinstance(text, str) for text in together)
    assert len({together[0], together[-1], together[-2]}) == 3


def test_the_bank_says_what_the_trained_model_says(bank, languages, clips):
    name, wav = clips[0]
    model = languages.model(0, rank=8, **SETTINGS[name])
    states = model.encode(wav[None]).half().float()
    (expected,) = GreedySearcher(model, 25, stop_repetition=True)(states)
    lengths = torch.tensor([states.shape[1]])
    assert bank.decode(states, lengths, [name]) == [expected]
