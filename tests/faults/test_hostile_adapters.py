"""Adapter and basis files by somebody who means harm, or damaged on the disk."""

import json
import struct

import pytest
import torch
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from safetensors.torch import save

from speechbrain_sumra.adapted import AdaptedWhisper, trained_tensors
from speechbrain_sumra.adapter_file import (
    FORMAT,
    AdapterFileError,
    load_adapter,
    read_adapter,
    read_metadata,
    read_shapes,
    save_adapter,
    write_adapter,
)
from speechbrain_sumra.adapter_folder import find_adapters
from speechbrain_sumra.adapters import SumRA
from speechbrain_sumra.bank import Bank
from speechbrain_sumra.basis import Basis, BasisError
from speechbrain_sumra.cli.adapters import facts_of
from speechbrain_sumra.peft_adapters import PeftAdapters
from speechbrain_sumra.restore import load_adapted, method_of
from speechbrain_sumra.whisper import Whisper

ANY_TIME = {
    "deadline": None,
    "suppress_health_check": [HealthCheck.function_scoped_fixture],
}


@pytest.fixture(scope="module")
def places(tiny_whisper, tmp_path_factory):
    """A model on the tiny Whisper, its file, and a bank."""
    folder = tmp_path_factory.mktemp("adapters")
    base = Whisper(tiny_whisper, folder / "pretrained", "new", "eo")
    model = AdaptedWhisper(base, SumRA, {"rank": 4}, folder / "basis")
    file = folder / "eo.safetensors"
    save_adapter(file, model, locale="eo", base_model=str(tiny_whisper))
    bank = Bank(str(tiny_whisper), folder / "pretrained", folder / "basis")
    return folder, model, file.read_bytes(), bank


@pytest.fixture(scope="module")
def lora_fa(places, tiny_whisper):
    """The file of a LoRA-FA, whose A is made from what the file says."""
    folder, *_ = places
    base = Whisper(tiny_whisper, folder / "pretrained", "new", "eo")
    settings = {"config": "LoraConfig", "r": 4, "frozen": ["*.lora_A.*"]}
    model = AdaptedWhisper(base, PeftAdapters, settings, folder / "basis")
    file = folder / "lora_fa.safetensors"
    save_adapter(file, model, locale="eo", base_model=str(tiny_whisper), seed=0)
    return file.read_bytes()


def read_in_every_way(path, model, bank):
    """Whatever is done with a file; errors are of the kinds that users are told."""
    before = {name: value.clone() for name, value in trained_tensors(model).items()}
    try:
        metadata, _ = read_adapter(path)
        read_shapes(path)
        facts_of(path)
        method_of(metadata)
        find_adapters(path)
        bank.add("eo", path)
        bank.use("eo")
        load_adapter(path, model)
    except ValueError as error:
        # AdapterFileError, or that of a setting; never one from the depths.
        assert str(path) in str(error) or str(error).startswith("its ")
        for name, value in trained_tensors(model).items():
            assert torch.equal(value, before[name])


@pytest.mark.fault(
    fault="damaged adapter files",
    provoked="property-based: bytes changed, removed, repeated or put in anywhere",
    result="one clear error that names the file, and a model that is as it was",
)
@given(data=st.data())
@settings(max_examples=150, **ANY_TIME)
def test_any_damage(places, tmp_path_factory, data):
    folder, model, whole, bank = places
    start = data.draw(st.integers(0, len(whole)), "start")
    length = data.draw(st.sampled_from([0, 1, 8, 1000, len(whole)]), "length")
    new = data.draw(st.one_of(st.binary(max_size=12), st.just(whole[:200])), "new")
    path = folder / "damaged.safetensors"
    damaged = whole[:start] + new + whole[start + length :]
    path.write_bytes(damaged)
    read_in_every_way(path, model, bank)
    if damaged != whole:
        # Only where the header does not say anything can a change go unseen.
        try:
            metadata, tensors = read_adapter(path)
        except AdapterFileError:
            return
        path.write_bytes(whole)
        expected, trained = read_adapter(path)
        assert metadata == expected and tensors.keys() == trained.keys()
        assert all(torch.equal(tensors[name], trained[name]) for name in trained)


values = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-(2**63), 2**63),
        st.floats(),
        st.text(max_size=8),
        st.sampled_from(["SumRA", "Lora", "AdaptedModel", "../../x", "Linear", "cuda"]),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=5), inner)
    ),
    max_leaves=5,
)


@pytest.mark.fault(
    fault="foreign metadata in an adapter file",
    provoked="property-based: any value for any entry, entries added and removed",
    result="one clear error that names the file; no class is looked up by a name that "
    "a file gives, and nothing is executed",
)
@given(data=st.data())
@settings(max_examples=150, **ANY_TIME)
def test_any_metadata(places, lora_fa, data):
    folder, model, sumra, bank = places
    path = folder / "foreign.safetensors"
    path.write_bytes(data.draw(st.sampled_from([sumra, lora_fa]), "file"))
    metadata, tensors = read_adapter(path)
    for _ in range(data.draw(st.integers(1, 3))):
        name = data.draw(st.one_of(st.sampled_from(sorted(metadata)), st.text()))
        if data.draw(st.booleans()):
            metadata.pop(name, None)
        else:
            metadata[name] = data.draw(values)
    write_adapter(path, metadata, tensors, "fp32")
    read_in_every_way(path, model, bank)


def with_header(header: bytes, size=None) -> bytes:
    """A safetensors file with this header, which claims to be of this size."""
    return struct.pack("<Q", len(header) if size is None else size) + header


def entry(**changes):
    tensor = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8], **changes}
    return json.dumps({"x": tensor}).encode()


HOSTILE = {
    "a header of 8 EB": with_header(b"{}", 2**63),
    "a header of 200 MB": with_header(b"{}", 200 * 2**20),
    "a header that is no JSON": with_header(b"\xff" * 50),
    "a header of many brackets": with_header(b"[" * 100_000),
    "offsets out of the file": with_header(entry(data_offsets=[0, 8000])) + bytes(8),
    "offsets that overlap": with_header(
        json.dumps(
            {
                name: {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}
                for name in "ab"
            }
        ).encode()
    )
    + bytes(8),
    "negative offsets": with_header(entry(data_offsets=[-8, 8])) + bytes(8),
    "a shape beyond the data": with_header(entry(shape=[2**40])) + bytes(8),
    "an unknown type": with_header(entry(dtype="PICKLE")) + bytes(8),
    "a pickle": b"\x80\x04\x95\x10\x00\x00\x00\x00\x00\x00\x00\x8c\x05posix\x94.",
    "a zip": b"PK\x03\x04" + bytes(100),
}
METADATA = {
    "no object": "[]",
    "deep": "[" * 100_000,
    "a number of 5000 digits": '{"rank": ' + "9" * 5000 + "}",
}


@pytest.mark.fault(
    fault="hostile safetensors files",
    provoked=", ".join([*HOSTILE, *METADATA]),
    result="one clear error that names the file",
)
@pytest.mark.parametrize("kind", [*HOSTILE, *METADATA])
def test_hostile_files(places, tmp_path, kind):
    _, model, _, bank = places
    path = tmp_path / "hostile.safetensors"
    if kind in HOSTILE:
        path.write_bytes(HOSTILE[kind])
    else:
        header = {"format": FORMAT, "adapter": METADATA[kind]}
        path.write_bytes(save({"x": torch.ones(1)}, header))
    for read in (read_metadata, read_adapter, read_shapes, facts_of, find_adapters):
        with pytest.raises(AdapterFileError, match="hostile.safetensors"):
            read(path)
    with pytest.raises(AdapterFileError, match="hostile.safetensors"):
        load_adapter(path, model)
    with pytest.raises(AdapterFileError, match="hostile.safetensors"):
        bank.add("x", path)
    with pytest.raises(BasisError, match="hostile.safetensors"):
        Basis.load(path)


RANK = "expected a whole number"
REFUSED = "that a file may"


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"rank": 10**9}, RANK),
        ({"method": "AdaptedModel"}, REFUSED),
        ({"method": "os.system"}, REFUSED),
        ({"layers": ["model.decoder.layers.9.fc1"]}, "no model can be built"),
        ({"base_fingerprint": "0" * 64}, "was trained on another base model"),
    ],
)
def test_a_file_cannot_ask_for_what_it_likes(places, tmp_path, changes, message):
    folder, _, whole, _ = places
    path = altered(whole, tmp_path, changes)
    with pytest.raises(AdapterFileError, match=f"asking.safetensors.*{message}"):
        load_adapted(path, None, folder / "pretrained", folder / "basis")


def altered(whole, tmp_path, changes):
    """A file with other metadata; what is new is a setting."""
    path = tmp_path / "asking.safetensors"
    path.write_bytes(whole)
    metadata, tensors = read_adapter(path)
    if "settings" not in changes:
        settings = [*metadata["settings"], *(changes.keys() - metadata.keys())]
        changes = {**changes, "settings": settings}
    write_adapter(path, {**metadata, **changes}, tensors, "fp32")
    return path


OF_LORA = [
    ({"r": 10**6}, RANK),
    ({"r": 0}, RANK),
    ({"r": True}, RANK),
    ({"rank_pattern": {"fc1": 10**6}}, RANK),
    ({"rank_pattern": {"(a+)+": 4}}, REFUSED),
    ({"megatron_core": "evil"}, REFUSED),
    ({"corda_config": {"cache_file": "/etc/passwd"}}, REFUSED),
    ({"init_lora_weights": "pissa_niter_1000000000"}, REFUSED),
    ({"method": "Shadow", "settings": ["r"], "shadow_model": "evil/repo"}, REFUSED),
    (
        {"method": "Shadow", "settings": ["shadow_model"], "shadow_model": "evil/repo"},
        REFUSED,
    ),
    (
        {
            "method": "AdaLora",
            "settings": ["init_r", "target_r"],
            "init_r": 10**6,
            "target_r": 1,
        },
        RANK,
    ),
]


@pytest.mark.parametrize("changes, message", OF_LORA)
def test_a_file_of_peft_cannot_either(places, lora_fa, tmp_path, changes, message):
    folder, *_ = places
    path = altered(lora_fa, tmp_path, changes)
    with pytest.raises(AdapterFileError, match=f"asking.safetensors.*{message}"):
        load_adapted(path, None, folder / "pretrained", folder / "basis")


@pytest.mark.parametrize("basis_is_known", [False, True])
@pytest.mark.parametrize(
    "changes",
    [
        {"r": 10**6},
        {"r": 0},
        {"layers": []},
        {"seed": 2**70},
        {"frozen": 3},
        {"lora_alpha": "x"},
    ],
)
def test_a_bank_makes_no_basis_of_what_a_file_cannot_mean(
    places, lora_fa, tmp_path, changes, basis_is_known
):
    _, _, _, bank = places
    for locale in bank.locales:
        bank.remove(locale)
    if basis_is_known:
        path = tmp_path / "genuine.safetensors"
        path.write_bytes(lora_fa)
        bank.add("hsb", path)
    path = altered(lora_fa, tmp_path, changes)
    before = set(bank.basis_folder.iterdir())
    with pytest.raises(AdapterFileError, match="asking.safetensors"):
        bank.add("eo", path)
    assert set(bank.basis_folder.iterdir()) == before


@given(content=st.binary(max_size=300))
@example(b"")
@settings(max_examples=100, **ANY_TIME)
def test_any_bytes(places, content):
    folder, model, _, bank = places
    path = folder / "bytes.safetensors"
    path.write_bytes(content)
    with pytest.raises(AdapterFileError):
        read_metadata(path)
    read_in_every_way(path, model, bank)
