"""A bank: each row as if alone, and languages that come and go."""

import math
import sys
import threading

import pytest
import torch
from languages import TOKENS

from speechbrain_sumra.adapter_file import (
    AdapterFileError,
    read_adapter,
)
from speechbrain_sumra.bank import UnknownLocaleError
from speechbrain_sumra.peft_adapters import PeftAdapters
from speechbrain_sumra.restore import load_adapted
from speechbrain_sumra.whisper import Whisper
from speechbrain_sumra.whisper.decoding import GreedySearcher


def draw_states(number, width=16, frames=30):
    generator = torch.Generator().manual_seed(3)
    states = torch.randn(number, frames, width, generator=generator)
    lengths = torch.randint(10, frames + 1, (number,), generator=generator)
    return states, lengths


def alone(bank, states, lengths, locales):
    """Each row decoded by itself."""
    return [
        bank.decode(states[i : i + 1, :n], lengths[i : i + 1], [locales[i]])[0]
        for i, n in enumerate(lengths)
    ]


METHODS = {
    "sumra": {},
    "sumra, alpha": {"alpha": 9.0},
    "sumra, trained A": {"train_down_proj": True},
    "lora": {"method": PeftAdapters},
    "lora, rank 6": {"method": PeftAdapters, "r": 6},
    "rslora": {"method": PeftAdapters, "use_rslora": True},
    "lora-fa": {"method": PeftAdapters, "frozen": ["*.lora_A.*"]},
    "without norms": {"train_norms": False},
    "mlp": {"linears": "mlp"},
}


@pytest.mark.parametrize("language", ["new", "none", "polish"])
@pytest.mark.parametrize("method", METHODS)
def test_a_bank_says_what_the_adapted_model_says(bank, languages, method, language):
    model = languages.model(1, language=language, **METHODS[method])
    bank.add("xx", languages.save("xx", model))
    states, lengths = draw_states(4)
    expected = GreedySearcher(model, TOKENS)(states, lengths)
    assert bank.decode(states, lengths, ["xx"] * 4) == expected
    unadapted = bank.decode(states, lengths, [None] * 4)
    assert unadapted != expected
    mixed = bank.decode(states, lengths, ["xx", None, "xx", None])
    assert mixed == [expected[0], unadapted[1], expected[2], unadapted[3]]


def test_a_language_of_whisper_speaks_after_its_own_token(bank, languages):
    model = languages.model(1, language="own", locale="pl")
    bank.add("pl", languages.save("pl", model))
    assert bank.prompt("pl") == model.prompt == model.prompt_of("pl")
    states, lengths = draw_states(2)
    expected = GreedySearcher(model, TOKENS)(states, lengths)
    assert bank.decode(states, lengths, ["pl"] * 2) == expected


def test_as_many_rows_are_decoded_together_as_asked_for(languages, monkeypatch):
    bank = languages.bank(max_resident=2)
    for seed, name in enumerate("abc"):
        bank.add(name, languages.make(name, seed))
    torch.manual_seed(0)
    waveforms = [torch.randn(1600) for _ in range(6)]
    sizes, decode = [], bank._decode

    def counted(states, lengths, languages):
        sizes.append(len(languages))
        return decode(states, lengths, languages)

    monkeypatch.setattr(bank, "_decode", counted)
    alike = [bank.transcribe(waveforms, "a", size) for size in (1, 4, 20)]
    assert alike[0] == alike[1] == alike[2]
    assert sizes == [1] * 6 + [4, 2] + [6]
    sizes.clear()
    bank.transcribe(waveforms, list("abcabc"), 20)  # more than fit at once
    assert sizes == [2, 2, 2]


def test_without_a_locale_it_is_whisper(bank, languages, tmp_path):
    bank.add("xx", languages.make("xx", 1))
    base = Whisper(languages.source, tmp_path, "none").eval()
    states, lengths = draw_states(3)
    expected = GreedySearcher(base, TOKENS)(states, lengths)
    assert bank.decode(states, lengths, [None] * 3) == expected
    assert bank.prompt(None) == base.prompt


def test_every_row_of_a_mixed_batch_gets_what_it_would_alone(bank, languages):
    settings = {
        "a": {},
        "b": {"language": "none"},
        "c": {"language": "polish"},
        "d": {"method": PeftAdapters, "r": 6},
        "e": {"train_norms": False},
    }
    for seed, (name, own) in enumerate(settings.items()):
        bank.add(name, languages.make(name, seed, **own))
    locales = ["a", "b", "c", "d", "e", None, "b", "a", "d"]
    states, lengths = draw_states(len(locales))
    together = bank.decode(states, lengths, locales)
    assert together == alone(bank, states, lengths, locales)
    assert len({tuple(tokens) for tokens in together}) == len(locales)


@pytest.mark.parametrize("method", ["sumra, trained A", "lora", "lora-fa"])
def test_rows_of_a_language_with_its_own_a_go_on_when_one_has_ended(
    bank, languages, monkeypatch, method
):
    bank.add("xx", languages.make("xx", 1, **METHODS[method]))
    states, lengths = draw_states(4)
    locales = ["xx"] * len(states)
    (first, *_) = bank.decode(states, lengths, locales)
    monkeypatch.setattr(bank.whisper, "eos", first[4])  # so that row 0 ends first
    expected = alone(bank, states, lengths, locales)
    assert len(expected[0]) < max(len(tokens) for tokens in expected[1:])
    assert bank.decode(states, lengths, locales) == expected


def test_logits_of_a_row_do_not_depend_on_the_languages_beside_it(bank, languages):
    for seed, name in enumerate("abc"):
        bank.add(name, languages.make(name, seed))
    states, _ = draw_states(3)
    tokens = torch.tensor([bank.prompt(name) + [300] * 6 for name in "abc"])
    bank.use(list("abc"))
    mixed, _ = bank.whisper.next_logits(states, tokens)
    for row, name in enumerate("abc"):
        bank.use(name)
        single, _ = bank.whisper.next_logits(states, tokens)
        torch.testing.assert_close(mixed[row], single[row], rtol=1e-4, atol=1e-4)
        assert (mixed[row] - single[row - 1]).abs().max() > 0.1


def test_the_longest_unused_language_gives_way(languages):
    bank = languages.bank(max_resident=2)
    states, lengths = draw_states(2)
    for seed, name in enumerate("abc"):
        bank.add(name, languages.make(name, seed))
    first = bank.decode(states, lengths, ["a", "b"])
    assert bank.resident == ["a", "b"]
    bank.use("a")
    bank.use("c")
    assert bank.resident == ["a", "c"]
    assert bank.decode(states, lengths, ["a", "b"]) == first
    with pytest.raises(ValueError, match="3 languages in one batch.*max_resident"):
        bank.use(["a", "b", "c"])
    assert bank.decode(states, lengths, ["a", "b"]) == first


def test_a_language_can_be_exchanged_and_removed(bank, languages):
    states, lengths = draw_states(2)
    for seed, name in enumerate("ab"):
        bank.add(name, languages.make(name, seed))
    a, b = (bank.decode(states, lengths, [name] * 2) for name in "ab")
    bank.add("a", languages.folder / "b.safetensors")
    assert bank.decode(states, lengths, ["a"] * 2) == b != a
    bank.remove("a")
    assert bank.locales == ["b"]
    with pytest.raises(UnknownLocaleError, match="'a'; this bank has: b"):
        bank.use("a")
    with pytest.raises(UnknownLocaleError, match="this bank has: b"):
        bank.remove("a")


def test_adding_and_removing_while_decoding_changes_nothing(bank, languages):
    files = {name: languages.make(name, seed) for seed, name in enumerate("abcd")}
    for name in "ab":
        bank.add(name, files[name])
    states, lengths = draw_states(2)
    expected = bank.decode(states, lengths, ["a", "b"])
    errors, done = [], threading.Event()

    def churn():
        try:
            while not done.is_set():
                for name in "cd":
                    bank.add(name, files[name])
                    bank.use(name)
                    bank.remove(name)
                bank.add("a", files["a"])
        except Exception as error:
            errors.append(error)

    thread = threading.Thread(target=churn)
    thread.start()
    try:
        for _ in range(15):
            assert bank.decode(states, lengths, ["a", "b"]) == expected
    finally:
        done.set()
        thread.join()
    assert not errors


def test_others_may_ask_what_is_in_memory(bank, languages):
    files = {name: languages.make(name, seed) for seed, name in enumerate("abc")}
    bank.add("a", files["a"])
    bank.use("a")
    errors, done = [], threading.Event()

    def ask():
        try:
            while not done.is_set():
                assert "a" in bank.resident and "a" in bank.locales
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=ask) for _ in range(2)]
    for thread in threads:
        thread.start()
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for _ in range(20):
            for name in "bc":
                bank.add(name, files[name])
                bank.use([name, "a"])
            for name in "bc":
                bank.remove(name)
    finally:
        sys.setswitchinterval(interval)
        done.set()
        for thread in threads:
            thread.join()
    assert not errors


def exchanged(bank, files):
    bank.add("a", files["another"])


def gone(bank, files):
    bank.remove("a")
    bank.remove("b")


def gone_for_another_a(bank, files):
    gone(bank, files)
    bank.add("other A", files["other A"])
    bank.use("other A")


@pytest.mark.parametrize("change", [exchanged, gone, gone_for_another_a])
@pytest.mark.parametrize("in_memory", [True, False])
def test_a_batch_that_has_begun_ends_with_its_languages(
    bank, languages, monkeypatch, change, in_memory
):
    own = {
        "a": {},
        "b": {"encoder_layers": 1},
        "another": {"language": "polish", "train_norms": False},
        "other A": {"strategy": "block"},
    }
    files = {
        name: languages.make(name, seed, context="clip", **settings)
        for seed, (name, settings) in enumerate(own.items())
    }
    torch.manual_seed(0)
    waveforms = [torch.randn(8000 + 4000 * i) for i in range(3)]
    for name in "ab":
        bank.add(name, files[name])
    if in_memory:
        bank.use(["a", "b"])
    expected = languages.bank()
    for name in "ab":
        expected.add(name, files[name])
    expected = expected.transcribe(waveforms, ["a", "b", "a"])
    encode = bank._encode

    def encode_and_change(waveform, language):
        states = encode(waveform, language)
        if waveform is waveforms[-1]:
            change(bank, files)
        return states

    monkeypatch.setattr(bank, "_encode", encode_and_change)
    assert bank.transcribe(waveforms, ["a", "b", "a"]) == expected
    if change is gone_for_another_a:
        alone = languages.bank()
        alone.add("other A", files["other A"])
        (found,) = bank.transcribe(waveforms[:1], "other A")
        assert [found] == alone.transcribe(waveforms[:1], "other A")


@pytest.mark.parametrize(
    ("waveform", "message"),
    [
        (torch.zeros(0), "at most 30 s, got shape \\(0,\\)"),
        (torch.zeros(16000 * 31), "31.0 s"),
        (torch.full((8000,), torch.nan), "NaN"),
        (torch.zeros(2, 8000), "mono"),
    ],
)
def test_bad_audio_is_an_error_in_its_place(bank, waveform, message):
    found = bank.transcribe([torch.zeros(8000), waveform], None)
    assert isinstance(found[0], str)
    with pytest.raises(ValueError, match=message):
        raise found[1]


def test_each_waveform_is_read_as_its_language_was_trained(bank, languages):
    bank.add("full", languages.make("full", 1, context="full"))
    bank.add("clip", languages.make("clip", 1, context="clip"))
    wav = torch.zeros(16000)
    assert len(bank.encode(wav, "full")) == 1500
    assert len(bank.encode(wav, "clip")) == 250


@pytest.mark.parametrize("method", ["sumra", "lora"])
def test_a_language_may_adapt_the_encoder_too(bank, languages, method):
    settings = {**METHODS[method], "encoder_layers": 1, "context": "clip"}
    model = languages.model(1, **settings)
    bank.add("xx", languages.save("xx", model))
    bank.add("yy", languages.make("yy", 2, **settings))
    torch.manual_seed(0)
    waveforms = [torch.randn(8000 + 4000 * i) for i in range(3)]
    unadapted = [bank.encode(wav, None) for wav in waveforms]
    bank.use(["yy", "xx"])  # of the next batch, which encoding must not change
    rows = bank._slots.rows.slots
    for wav, base in zip(waveforms, unadapted, strict=True):
        own = bank.encode(wav, "xx")
        with torch.no_grad():
            expected = model.finish_encoding(model.encode(wav[None]))[0]
        assert (
            (own - expected).abs().max() < 1e-2 < (own - base[: len(own)]).abs().max()
        )
        # W0 stands in one matrix with A, of which a row more may round otherwise.
        torch.testing.assert_close(bank.encode(wav, None), base, rtol=0, atol=5e-3)
    assert bank._slots.rows.slots is rows

    states = [model.encode(wav[None])[0] for wav in waveforms]
    lengths = torch.tensor([len(state) for state in states])
    padded = torch.nn.utils.rnn.pad_sequence(states, batch_first=True)
    tokens = GreedySearcher(model, TOKENS)(padded, lengths)
    expected = [
        bank.whisper.tokenizer.decode(t, skip_special_tokens=True).strip()
        for t in tokens
    ]
    assert bank.transcribe(waveforms, "xx") == expected
    others = bank.transcribe(waveforms, ["yy", "xx", None])
    assert others[1] == expected[1]
    assert others[0] != expected[0] and others[2] != expected[2]


def test_languages_share_the_decoder_whether_or_not_they_adapt_the_encoder(languages):
    files = {
        name: languages.make(name, layers, encoder_layers=layers, context="clip")
        for layers, name in enumerate(["decoder", "encoder"])
    }
    torch.manual_seed(0)
    waveforms = [torch.randn(8000 + 4000 * i) for i in range(2)]
    expected = []
    for (name, file), waveform in zip(files.items(), waveforms, strict=True):
        bank = languages.bank()
        bank.add(name, file)
        expected += bank.transcribe([waveform], name)
    bank = languages.bank()
    for name, file in files.items():
        bank.add(name, file)
    assert bank.transcribe(waveforms, list(files)) == expected
    assert len(set(expected)) == 2
    with pytest.raises(AdapterFileError, match="down_proj is another.*another bank"):
        bank.add("b", languages.make("b", 1, encoder_layers=1, strategy="block"))


def test_a_mixture_is_the_weighted_sum_of_updates(bank, languages, tmp_path):
    for seed, name in enumerate("ab"):
        bank.add(name, languages.make(name, seed))
    states, lengths = draw_states(3)
    assert bank.mix({"a": 0.25, "b": 0.75}, tmp_path / "mix.safetensors") == (
        "0.25*a+0.75*b"
    )
    a, b, mix = (
        read_adapter(languages.folder / f"{name}.safetensors")[1]
        for name in ("a", "b", "mix")
    )
    for name, value in mix.items():
        torch.testing.assert_close(value, 0.25 * a[name] + 0.75 * b[name])
    bank.add("file", tmp_path / "mix.safetensors")
    from_memory = bank.decode(states, lengths, ["0.25*a+0.75*b"] * 3)
    assert from_memory == bank.decode(states, lengths, ["file"] * 3)
    only_a = bank.mix({"a": 1.0})
    assert bank.decode(states, lengths, [only_a] * 3) == bank.decode(
        states, lengths, ["a"] * 3
    )
    nothing = bank.mix({"a": 0.0})
    bank.use(nothing)
    mine, _ = bank.whisper.next_logits(states, torch.full((3, 5), 300))
    bank.use(None)
    base, _ = bank.whisper.next_logits(states, torch.full((3, 5), 300))
    torch.testing.assert_close(mine, base, rtol=0, atol=1e-5)


def test_what_has_no_common_space_is_not_mixed(bank, languages):
    bank.add("a", languages.make("a", 1))
    bank.add("lora", languages.make("lora", 1, method=PeftAdapters))
    bank.add("pl", languages.make("pl", 1, language="polish"))
    with pytest.raises(AdapterFileError, match="lora has an A of its own"):
        bank.mix({"a": 0.5, "lora": 0.5})
    with pytest.raises(AdapterFileError, match="a and pl.*language differs"):
        bank.mix({"a": 0.5, "pl": 0.5})
    with pytest.raises(UnknownLocaleError):
        bank.mix({"a": 0.5, "?": 0.5})
    for weight in (math.nan, math.inf):
        with pytest.raises(ValueError, match="Expected finite weights"):
            bank.mix({"a": weight})


def test_a_mixture_is_said_after_the_token_that_its_languages_share(
    bank, languages, tmp_path
):
    for seed, (name, locale) in enumerate({"a": "pl", "b": "pl-PL"}.items()):
        model = languages.model(seed, language="own", locale="pl")
        bank.add(name, languages.save(name, model, locale=locale))
    path = tmp_path / "mix.safetensors"
    name = bank.mix({"a": 0.5, "b": 0.5}, path)
    assert name == "0.5*a+0.5*b" in bank.locales
    assert bank.prompt(name) == bank.prompt("a") != bank.prompt(None)
    model, metadata = load_adapted(path, **languages.places)
    assert metadata["locale"] == "pl" and model.prompt_of("pl") == bank.prompt("a")
    bank.add("file", path)
    states, lengths = draw_states(2)
    expected = GreedySearcher(model, TOKENS)(states, lengths)
    assert bank.decode(states, lengths, [name, "file"]) == expected

    cs = languages.model(2, language="own", locale="cs")
    bank.add("cs", languages.save("cs", cs))
    with pytest.raises(AdapterFileError, match="own token.*here a: pl, cs: cs"):
        bank.mix({"a": 0.5, "cs": 0.5})


def test_a_bank_needs_no_stored_basis(languages):
    path = languages.make("a", 1)
    states, lengths = draw_states(2)
    results = []
    for _ in range(2):
        bank = languages.bank()
        bank.add("a", path)
        results.append(bank.decode(states, lengths, ["a", None]))
        for file in languages.places["basis_folder"].iterdir():
            file.unlink()
    assert results[0] == results[1]
