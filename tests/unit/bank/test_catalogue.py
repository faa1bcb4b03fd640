"""What may be in a bank: which files fit, and what is said of those that do not."""

import gc
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from speechbrain_sumra.adapter_file import (
    AdapterFileError,
    read_adapter,
    write_adapter,
)
from speechbrain_sumra.bank import UnknownLocaleError
from speechbrain_sumra.peft_adapters import PeftAdapters


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"method": PeftAdapters, "use_dora": True}, "DoRA.*rescales"),
        (
            {"method": PeftAdapters, "init_lora_weights": "pissa"},
            "pissa.*replaces the base",
        ),
        ({"method": PeftAdapters, "alpha_pattern": {"fc1": 60}}, "alpha_pattern="),
        ({"method": PeftAdapters, "rank_pattern": {"fc1": 6}}, "rank_pattern="),
        ({"method": PeftAdapters, "lora_bias": True}, "lora_bias=True"),
        ({"method": PeftAdapters, "config": "VeraConfig"}, "Vera"),
        ({"method": None, "unfrozen_layers": ["model.decoder"]}, "full fine-tuning"),
    ],
)
def test_methods_that_cannot_share_a_model_are_refused(
    bank, languages, settings, reason
):
    if settings.get("config") == "VeraConfig":
        settings = {**settings, "lora_alpha": None}
        pytest.importorskip("peft")
        model = languages.model(1, method=Vera, language="none")
    else:
        model = languages.model(1, language="none", **settings)
    path = languages.save("xx", model)
    with pytest.raises(AdapterFileError, match=f"xx.safetensors.*{reason}"):
        bank.add("xx", path)
    assert bank.locales == []


class Vera(PeftAdapters):
    """VeRA with its own arguments."""

    def __init__(self):
        super().__init__("VeraConfig", r=4)


def test_another_base_or_basis_is_refused(bank, languages, tmp_path):
    path = languages.make("a", 1)
    bank.add("a", path)
    with pytest.raises(AdapterFileError, match="down_proj is another.*another bank"):
        bank.add("b", languages.make("b", 1, strategy="block"))
    metadata, tensors = read_adapter(path)
    write_adapter(path, {**metadata, "base_fingerprint": "0" * 64}, tensors, "fp32")
    with pytest.raises(AdapterFileError, match="base fingerprint is 000000000000"):
        bank.add("c", path)
    assert bank.locales == ["a"]


def test_a_file_that_only_says_it_has_its_own_a_is_refused_as_well(bank, languages):
    bank.add("a", languages.make("a", 1))
    path = languages.make("b", 1, strategy="block")
    metadata, tensors = read_adapter(path)
    write_adapter(path, {**metadata, "train_down_proj": True}, tensors, "fp32")
    with pytest.raises(AdapterFileError, match="use another bank"):
        bank.add("b", path)


def test_an_empty_bank_takes_any_rank(bank, languages):
    bank.add("a", languages.make("a", 1))
    other = languages.make("b", 1, rank=2)
    with pytest.raises(AdapterFileError, match="use another bank"):
        bank.add("b", other)
    bank.remove("a")
    bank.add("b", other)
    assert bank.locales == ["b"]


def test_of_two_files_that_come_at_once_with_different_a_one_is_refused(
    bank, languages, monkeypatch
):
    files = {
        "a": languages.make("a", 1),
        "b": languages.make("b", 1, strategy="block"),
    }
    catalogue, both = bank._catalogue, threading.Barrier(2)
    check = catalogue._check_shapes

    def together(language):
        check(language)
        both.wait(60)

    monkeypatch.setattr(catalogue, "_check_shapes", together)
    with ThreadPoolExecutor(2) as pool:
        added = [pool.submit(bank.add, name, file) for name, file in files.items()]
    (error,) = filter(None, [future.exception() for future in added])
    assert isinstance(error, AdapterFileError) and "use another bank" in str(error)
    assert len(bank.locales) == 1


def test_nobody_waits_for_the_basis_of_another_language(bank, languages, monkeypatch):
    bank.add("a", languages.make("a", 1))
    frozen = {"method": PeftAdapters, "frozen": ["*.lora_A.*"]}
    slow = languages.make("slow", 1, **frozen)
    for file in languages.places["basis_folder"].glob("*Lora*"):
        file.unlink()
    begun, others_are_done = threading.Event(), threading.Event()
    load_base = bank._catalogue._load_base

    def load_slowly():
        begun.set()
        assert others_are_done.wait(20)
        return load_base()

    monkeypatch.setattr(bank._catalogue, "_load_base", load_slowly)
    with ThreadPoolExecutor(1) as pool:
        added = pool.submit(bank.add, "slow", slow)
        assert begun.wait(60)
        bank.use("a")
        bank.add("b", languages.make("b", 2))
        others_are_done.set()
        added.result()
    assert bank.locales == ["a", "b", "slow"]


def test_a_file_that_was_trained_again_is_not_mixed(bank, languages):
    for seed, name in enumerate("ab"):
        bank.add(name, languages.make(name, seed))
    languages.make("a", 3, strategy="block")
    with pytest.raises(AdapterFileError, match="a.safetensors: it is another file"):
        bank.mix({"a": 1.0})
    assert bank.locales == ["a", "b"]


def test_a_may_be_another_one_when_no_language_shares_it_any_more(bank, languages):
    bank.add("a", languages.make("a", 1))
    bank.add("lora", languages.make("lora", 1, method=PeftAdapters))
    bank.use(["a", "lora"])
    other = languages.make("b", 1, rank=2)
    bank.remove("a")
    bank.add("b", other)
    with pytest.raises(AdapterFileError, match="use another bank"):
        bank.add("a", languages.folder / "a.safetensors")
    bank.add("b", languages.folder / "a.safetensors")  # in the place of the only one
    assert bank.locales == ["b", "lora"]


def test_a_bank_keeps_no_basis_of_languages_that_have_gone(bank, languages):
    bank.add("stays", languages.make("stays", 1))
    left = []
    for seed in range(3):
        frozen = {"method": PeftAdapters, "frozen": ["*.lora_A.*"], "seed": seed}
        model = languages.model(1, **frozen)
        bank.add("goes", languages.save("goes", model, seed=seed))
        bank.use("goes")
        left.append(weakref.ref(bank._catalogue["goes"].kind.basis))
    bank.remove("goes")
    gc.collect()
    assert [basis() for basis in left] == [None] * 3
    assert bank.resident == []


def test_a_language_has_one_token(bank, languages):
    model = languages.model(1, language="own", locale="cs+pl")
    path = languages.save("cs+pl", model)
    with pytest.raises(AdapterFileError, match=r"several languages, cs\+pl, each"):
        bank.add("both", path)


def edited(path, kind):
    """Damage a file in one way."""
    metadata, tensors = read_adapter(path)
    name = next(name for name in tensors if name.endswith("up_proj.weight"))
    if kind == "truncated":
        path.write_bytes(path.read_bytes()[:-100])
    elif kind == "text":
        path.write_text("not an adapter")
    elif kind == "gone":
        path.unlink()
    elif kind == "shape":
        write_adapter(path, metadata, {**tensors, name: torch.ones(3, 4)}, "fp32")
    elif kind == "nan":
        bad = torch.full_like(tensors[name], torch.nan)
        write_adapter(path, metadata, {**tensors, name: bad}, "fp32")
    elif kind == "metadata":
        del metadata["rank"]
        write_adapter(path, metadata, tensors, "fp32")


KINDS = ["truncated", "text", "gone", "shape", "nan", "metadata"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_damaged_file_is_one_clear_error(bank, languages, kind):
    path = languages.make("xx", 1)
    edited(path, kind)
    with pytest.raises(AdapterFileError, match="xx.safetensors"):
        bank.add("xx", path)
        bank.use("xx")  # numbers are read now


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_damaged_later_leaves_the_other_rows_alone(bank, languages, kind):
    for seed, name in enumerate("ab"):
        bank.add(name, languages.make(name, seed))
    torch.manual_seed(0)
    waveforms = [torch.randn(8000) for _ in range(3)]
    (expected,) = bank.transcribe(waveforms[:1], "a")
    edited(languages.folder / "b.safetensors", kind)
    found = bank.transcribe([waveforms[0], waveforms[1], waveforms[2]], ["a", "b", "?"])
    assert found[0] == expected
    assert isinstance(found[1], AdapterFileError)
    assert isinstance(found[2], UnknownLocaleError)
