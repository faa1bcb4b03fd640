"""Sources of Whisper models: folders, the hub, offline packages, CTranslate2."""

import hashlib
import json
import shutil
import socket
import struct
import time
from concurrent.futures import ThreadPoolExecutor

import huggingface_hub
import numpy as np
import pytest
import torch
from speechbrain.integrations.huggingface.whisper import Whisper
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    AutoTokenizer,
    WhisperConfig,
    WhisperForConditionalGeneration,
)
from transformers.models.whisper.tokenization_whisper import LANGUAGES

from speechbrain_sumra import (
    conversion_cache,
    ctranslate2_to_huggingface,
    pretrained,
)
from speechbrain_sumra.ctranslate2_format import (
    TYPE_NAMES,
    CTranslate2FormatError,
    read_variables,
    to_state_dict,
)
from speechbrain_sumra.pretrained import (
    CorruptModelError,
    ModelNotFoundError,
    fetch_whisper,
)

MULTILINGUAL, ENGLISH_ONLY = 51865, 51864
SPECIAL = [
    "<|endoftext|>",
    "<|startoftranscript|>",
    *(f"<|{code}|>" for code in list(LANGUAGES)[:99]),
    "<|translate|>",
    "<|transcribe|>",
    "<|startoflm|>",
    "<|startofprev|>",
    "<|nocaptions|>",
    "<|notimestamps|>",
]


# ---- a tiny Whisper, and a writer of CTranslate2's format


def tiny_whisper(vocabulary=MULTILINGUAL, seed=0):
    """A random model in which every parameter differs from its neighbours."""
    torch.manual_seed(seed)
    config = WhisperConfig(
        vocab_size=vocabulary,
        d_model=8,
        encoder_layers=2,
        decoder_layers=1,
        encoder_attention_heads=2,
        decoder_attention_heads=4,
        encoder_ffn_dim=12,
        decoder_ffn_dim=20,
        max_source_positions=50,
        max_target_positions=16,
    )
    model = WhisperForConditionalGeneration(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.3)
    return model


def ct2_variables(model):
    """The variables that CTranslate2's own converter would store."""
    values = {}

    def put(name, *modules):
        for parameter in ("weight", "bias"):
            parts = [getattr(module, parameter, None) for module in modules]
            if all(part is None for part in parts):
                continue
            zeros = torch.zeros(len(modules[0].weight))
            parts = [zeros if part is None else part.detach() for part in parts]
            is_norm = isinstance(modules[0], torch.nn.LayerNorm)
            norm_names = {"weight": "gamma", "bias": "beta"}
            stored = norm_names[parameter] if is_norm else parameter
            values[f"{name}/{stored}"] = torch.cat(parts).numpy()

    def attention(name, norm, module, fused):
        put(f"{name}/layer_norm", norm)
        projections = [module.q_proj, module.k_proj, module.v_proj]
        groups = [projections] if fused else [projections[:1], projections[1:]]
        for i, group in enumerate([*groups, [module.out_proj]]):
            put(f"{name}/linear_{i}", *group)

    for side in ("encoder", "decoder"):
        part = getattr(model.model, side)
        put(f"{side}/layer_norm", part.layer_norm)
        positions = part.embed_positions.weight.detach().numpy()
        values[f"{side}/position_encodings/encodings"] = positions
        heads = getattr(model.config, f"{side}_attention_heads")
        values[f"{side}/num_heads"] = np.int16(heads)
        for i, layer in enumerate(part.layers):
            name = f"{side}/layer_{i}"
            attention(
                f"{name}/self_attention",
                layer.self_attn_layer_norm,
                layer.self_attn,
                fused=True,
            )
            if side == "decoder":
                attention(
                    f"{name}/attention",
                    layer.encoder_attn_layer_norm,
                    layer.encoder_attn,
                    fused=False,
                )
            put(f"{name}/ffn/layer_norm", layer.final_layer_norm)
            put(f"{name}/ffn/linear_0", layer.fc1)
            put(f"{name}/ffn/linear_1", layer.fc2)
    put("encoder/conv1", model.model.encoder.conv1)
    put("encoder/conv2", model.model.encoder.conv2)
    put("decoder/embeddings", model.model.decoder.embed_tokens)
    return values


def ct2_bytes(variables, version=6, spec="WhisperSpec"):
    """Serializes variables; a torch bfloat16 tensor may stand for an array."""

    def string(text):
        return struct.pack("<H", len(text) + 1) + text.encode() + b"\0"

    out = [struct.pack("<I", version), string(spec), struct.pack("<I", 3)]
    out.append(struct.pack("<I", len(variables)))
    for name, value in variables.items():
        if isinstance(value, torch.Tensor):
            type_name, raw = "bfloat16", value.view(torch.int16).numpy().tobytes()
        else:
            type_name, raw = value.dtype.name, value.tobytes()
        out.append(string(name) + struct.pack("<B", len(value.shape)))
        out.append(struct.pack(f"<{len(value.shape)}I", *value.shape))
        out.append(struct.pack("<BI", TYPE_NAMES.index(type_name), len(raw)) + raw)
    out.append(struct.pack("<I", 1))
    out.append(string("decoder/projection/weight"))
    out.append(string("decoder/embeddings/weight"))
    return b"".join(out)


def write_tokenizer(folder, vocabulary=MULTILINGUAL):
    """Whisper's ids on a byte alphabet, without the timestamps, as many have it."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    texts = vocabulary - 1501 - len(SPECIAL)
    names = alphabet + [f"filler{i}" for i in range(texts - len(alphabet))]
    ids = {name: i for i, name in enumerate(names)}
    tokenizer = Tokenizer(models.BPE(vocab=ids, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(SPECIAL)
    tokenizer.save(str(folder / "tokenizer.json"))


def write_ct2_folder(folder, variables, vocabulary=MULTILINGUAL, **options):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.bin").write_bytes(ct2_bytes(variables, **options))
    config = {"suppress_ids": [1, 2], "suppress_ids_begin": [220, 50257]}
    config["alignment_heads"] = [[0, 1]]
    (folder / "config.json").write_text(json.dumps(config))
    write_tokenizer(folder, vocabulary)
    return folder


def logits(model):
    generator = torch.Generator().manual_seed(1)
    features = torch.randn(2, 80, 100, generator=generator)
    ids = torch.tensor([[50258, 50259, 5], [50258, 50269, 9]])
    with torch.no_grad():
        return model(features, decoder_input_ids=ids).logits


def load(folder):
    return WhisperForConditionalGeneration.from_pretrained(folder).eval()


@pytest.fixture(scope="session")
def tiny():
    return tiny_whisper()


@pytest.fixture(scope="session")
def ct2_folder(tiny, tmp_path_factory):
    """A CTranslate2 folder; tests that change it work on a copy."""
    folder = tmp_path_factory.mktemp("ct2") / "tiny"
    return write_ct2_folder(folder, ct2_variables(tiny))


@pytest.fixture(scope="session")
def converted(ct2_folder, tmp_path_factory):
    return fetch_whisper(str(ct2_folder), tmp_path_factory.mktemp("cache"))


@pytest.fixture
def own_folder(ct2_folder, tmp_path):
    return shutil.copytree(ct2_folder, tmp_path / "tiny")


@pytest.fixture
def no_hub(monkeypatch, tmp_path):
    """Offline mode and an empty Hugging Face cache, which is returned."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(
        huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub")
    )
    return tmp_path / "hub"


# ---- what a conversion gives


def test_conversion_is_exact(tiny, converted):
    model = load(converted)
    assert model.dtype == torch.float32
    assert torch.equal(logits(model), logits(tiny))


def test_conversion_in_speechbrain(tiny, converted, tmp_path):
    whisper = Whisper(str(converted), str(tmp_path), freeze=True)
    state = whisper.model.state_dict()
    for name, value in tiny.model.state_dict().items():
        assert torch.equal(state[name], value), name
    assert whisper.is_multilingual
    assert len(whisper.tokenizer) == whisper.config.vocab_size == MULTILINGUAL
    assert whisper.feature_extractor.n_samples == 16000  # 50 positions, 1 s


def test_converted_configuration(converted):
    model = load(converted)
    assert model.config.decoder_start_token_id == 50258
    assert {model.config.bos_token_id, model.config.eos_token_id} == {50257}
    assert model.config.encoder_attention_heads == 2
    assert model.config.decoder_attention_heads == 4
    generation = model.generation_config
    assert generation.is_multilingual
    assert generation.lang_to_id["<|pl|>"] == 50269
    assert len(generation.lang_to_id) == 99
    assert generation.task_to_id == {"transcribe": 50359, "translate": 50358}
    assert generation.no_timestamps_token_id == 50363
    assert generation.suppress_tokens == [1, 2]
    assert generation.begin_suppress_tokens == [220, 50257]
    assert generation.alignment_heads == [[0, 1]]
    assert generation.max_length == 16


def test_converted_tokenizer(converted):
    tokenizer = AutoTokenizer.from_pretrained(converted)
    assert len(tokenizer) == MULTILINGUAL
    assert tokenizer.convert_tokens_to_ids("<|0.00|>") == 50364
    assert tokenizer.convert_tokens_to_ids("<|30.00|>") == MULTILINGUAL - 1
    tokenizer.set_prefix_tokens(language="polish", task="transcribe")
    ids = tokenizer("Dzień dobry").input_ids
    assert ids[:4] == [50258, 50269, 50359, 50363]
    assert ids[-1] == 50257
    assert tokenizer.decode(ids, skip_special_tokens=True) == "Dzień dobry"
    assert tokenizer.normalize("Don't!") == "do not"
    tokenizer.set_prefix_tokens(language="english", task="translate")
    assert tokenizer.prefix_tokens == [50258, 50259, 50358, 50363]
    # transformers takes the last special token for the one before <|0.00|>.
    assert tokenizer.all_special_ids[-1] == 50363


def test_english_only(tmp_path):
    model = tiny_whisper(ENGLISH_ONLY)
    source = write_ct2_folder(tmp_path / "en", ct2_variables(model), ENGLISH_ONLY)
    folder = fetch_whisper(str(source), tmp_path / "cache")
    config = load(folder).generation_config
    assert not config.is_multilingual
    assert config.decoder_start_token_id == 50257
    assert not hasattr(config, "lang_to_id")
    assert torch.equal(logits(load(folder)), logits(model))


@pytest.mark.parametrize("type_name", ["float16", "bfloat16"])
def test_half_precision_is_widened(tiny, type_name):
    dtype = getattr(torch, type_name)
    variables = {}
    for name, value in ct2_variables(tiny).items():
        if value.dtype == np.float32:
            half = torch.from_numpy(value).to(dtype)
            value = half if type_name == "bfloat16" else half.numpy()
        variables[name] = value
    state = to_state_dict(read_variables(ct2_bytes(variables)))
    for name, value in state.items():
        expected = tiny.state_dict()[name].to(dtype).float()
        assert value.dtype == np.float32
        assert torch.equal(torch.from_numpy(value), expected), name


def test_int8_is_divided_by_its_row_scale(tiny):
    variables = ct2_variables(tiny)
    rng = np.random.default_rng(0)
    expected = {}
    for name in [n for n in variables if n.endswith("weight")]:
        value = variables[name]
        q = rng.integers(-127, 128, value.shape, dtype=np.int8)
        scale = rng.uniform(50, 900, len(value)).astype(np.float32)
        variables[name], variables[f"{name}_scale"] = q, scale
        rows = [q[i].astype(np.float32) / scale[i] for i in range(len(q))]
        expected[name] = np.stack(rows)
    state = to_state_dict(read_variables(ct2_bytes(variables)))
    query, key, value = (
        state[f"model.decoder.layers.0.self_attn.{x}_proj.weight"] for x in "qkv"
    )
    stacked = expected["decoder/layer_0/self_attention/linear_0/weight"]
    assert np.array_equal(np.concatenate([query, key, value]), stacked)
    conv = expected["encoder/conv1/weight"]
    assert np.array_equal(state["model.encoder.conv1.weight"], conv)


def test_padding_rows_are_cut(tiny, tmp_path):
    variables = ct2_variables(tiny)
    embedding = variables["decoder/embeddings/weight"]
    padding = np.ones((7, embedding.shape[1]), np.float32)
    variables["decoder/embeddings/weight"] = np.concatenate([embedding, padding])
    source = write_ct2_folder(tmp_path / "padded", variables)
    folder = fetch_whisper(str(source), tmp_path / "cache")
    assert load(folder).config.vocab_size == MULTILINGUAL
    assert torch.equal(logits(load(folder)), logits(tiny))


# ---- files that are not what they should be


@pytest.mark.parametrize(
    "options, message",
    [
        ({"version": 3}, "format version 6 .found 3"),
        ({"spec": "TransformerSpec"}, "'TransformerSpec' model"),
    ],
)
def test_wrong_header(options, message):
    with pytest.raises(CTranslate2FormatError, match=message):
        read_variables(ct2_bytes({}, **options))


def test_every_truncation_is_named():
    data = ct2_bytes({"a/weight": np.ones((2, 3), np.float32)})
    for end in range(len(data)):
        with pytest.raises(CTranslate2FormatError, match="truncated"):
            read_variables(data[:end])


def test_corrupt_fields():
    data = ct2_bytes({"decoder/embeddings/weight": np.ones(4, np.float32)})
    assert set(read_variables(data)) == {
        "decoder/embeddings/weight",
        "decoder/projection/weight",
    }
    with pytest.raises(CTranslate2FormatError, match="1 bytes after"):
        read_variables(data + b"x")
    at = data.index(b"weight\0") + len(b"weight\0") + 5  # the type, then the size
    with pytest.raises(CTranslate2FormatError, match="unknown type 9"):
        read_variables(data[:at] + b"\x09" + data[at + 1 :])
    with pytest.raises(CTranslate2FormatError, match="needs 16 bytes"):
        read_variables(data[: at + 1] + b"\x0f" + data[at + 2 :])


def drop(variables, name):
    del variables[name]


def set_key_bias(variables, name):
    variables[name][8] = 1.0


def make_int16(variables, name):
    variables[name] = variables[name].astype(np.int16)


def cut(variables, name):
    variables[name] = variables[name][:-1]


@pytest.mark.parametrize(
    "damage, name, message",
    [
        (drop, "encoder/num_heads", "no variable 'encoder/num_heads'"),
        (drop, "encoder/layer_1/ffn/linear_0/bias", "layers.1.fc1.bias"),
        (set_key_bias, "encoder/layer_0/self_attention/linear_0/bias", "not zero"),
        (make_int16, "decoder/layer_0/ffn/linear_0/weight", "stored as int16"),
        (cut, "decoder/layer_0/ffn/linear_1/weight", "should have shape"),
    ],
)
def test_incomplete_model(tiny, tmp_path, damage, name, message):
    variables = {k: np.copy(v) for k, v in ct2_variables(tiny).items()}
    damage(variables, name)
    source = write_ct2_folder(tmp_path / "bad", variables)
    with pytest.raises(CTranslate2FormatError, match=message):
        fetch_whisper(str(source), tmp_path / "cache")
    # Nothing half done stays.
    assert [p.name for p in (tmp_path / "cache").iterdir()] in ([], [".bad-hf.lock"])


def test_truncated_and_empty_folders(own_folder, tmp_path):
    model = own_folder / "model.bin"
    for content in (model.read_bytes()[:5000], b""):
        model.write_bytes(content)
        with pytest.raises(CTranslate2FormatError, match="truncated"):
            fetch_whisper(str(own_folder), tmp_path / "cache")


def test_tokenizer_missing_or_of_another_model(own_folder, tmp_path):
    names = ["!"] * 10
    (own_folder / "vocabulary.json").write_text(json.dumps(names))
    with pytest.raises(CTranslate2FormatError, match="belongs to another model"):
        fetch_whisper(str(own_folder), tmp_path / "cache")
    (own_folder / "vocabulary.json").unlink()
    (own_folder / "tokenizer.json").unlink()
    with pytest.raises(CTranslate2FormatError, match="has no tokenizer.json"):
        fetch_whisper(str(own_folder), tmp_path / "cache")


# ---- conversions are kept


def weights_state(folder):
    stat = (folder / "model.safetensors").stat()
    return stat.st_ino, stat.st_mtime_ns


def test_conversion_is_made_once(own_folder, tmp_path):
    first = fetch_whisper(str(own_folder), tmp_path / "cache")
    assert first == tmp_path / "cache" / "tiny-hf"
    before = weights_state(first)
    assert weights_state(fetch_whisper(str(own_folder), tmp_path / "cache")) == before


def test_changed_source_is_converted_again(own_folder, tmp_path):
    folder = fetch_whisper(str(own_folder), tmp_path / "cache")
    other = tiny_whisper(seed=5)
    (own_folder / "model.bin").write_bytes(ct2_bytes(ct2_variables(other)))
    assert fetch_whisper(str(own_folder), tmp_path / "cache") == folder
    assert torch.equal(logits(load(folder)), logits(other))


def test_damaged_conversion_is_made_again(tiny, own_folder, tmp_path):
    folder = fetch_whisper(str(own_folder), tmp_path / "cache")
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    left_behind = tmp_path / "cache" / ".tiny-hf-tmp-killed"
    left_behind.mkdir()
    fetch_whisper(str(own_folder), tmp_path / "cache")
    assert torch.equal(logits(load(folder)), logits(tiny))
    assert not left_behind.exists()


def test_foreign_folder_is_not_replaced(own_folder, tmp_path):
    mine = tmp_path / "cache" / "tiny-hf" / "thesis.txt"
    mine.parent.mkdir(parents=True)
    mine.write_text("years of work")
    with pytest.raises(FileExistsError, match="not made by a conversion"):
        fetch_whisper(str(own_folder), tmp_path / "cache")
    assert mine.read_text() == "years of work"


def test_simultaneous_conversions(own_folder, tmp_path, monkeypatch):
    calls = []
    real = conversion_cache.convert_to_huggingface

    def counted(*arguments):
        calls.append(arguments)
        real(*arguments)

    monkeypatch.setattr(conversion_cache, "convert_to_huggingface", counted)
    with ThreadPoolExecutor(3) as pool:
        jobs = [
            pool.submit(fetch_whisper, str(own_folder), tmp_path / "cache")
            for _ in range(3)
        ]
    assert {job.result() for job in jobs} == {tmp_path / "cache" / "tiny-hf"}
    assert len(calls) == 1


def test_default_cache_is_a_setting(own_folder, tmp_path, monkeypatch):
    monkeypatch.setenv(pretrained.CACHE_VARIABLE, str(tmp_path / "elsewhere"))
    assert fetch_whisper(str(own_folder)) == tmp_path / "elsewhere" / "tiny-hf"


# ---- folders


def test_huggingface_folder_is_returned_as_it_is(converted, tmp_path):
    assert fetch_whisper(str(converted), tmp_path / "cache") == converted
    assert not (tmp_path / "cache").exists()


def test_huggingface_folder_with_missing_shards(converted, tmp_path):
    folder = shutil.copytree(converted, tmp_path / "sharded")
    (folder / "model.safetensors").rename(folder / "model-00001-of-00002.safetensors")
    names = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]
    index = {"weight_map": dict(zip("ab", names, strict=True))}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(ModelNotFoundError, match="model-00002-of-00002"):
        fetch_whisper(str(folder))


def test_folder_of_another_kind(tmp_path):
    with pytest.raises(ModelNotFoundError, match="Files found: none"):
        fetch_whisper(str(tmp_path))
    (tmp_path / "notes.txt").touch()
    with pytest.raises(ModelNotFoundError, match=r"notes.txt[\s\S]*model.bin"):
        fetch_whisper(str(tmp_path))
    (tmp_path / "model.safetensors").touch()
    (tmp_path / "config.json").write_text('{"model_type": "wav2vec2"}')
    with pytest.raises(ModelNotFoundError, match="wav2vec2, expected whisper"):
        fetch_whisper(str(tmp_path))


# ---- the hub


@pytest.mark.parametrize("weights", ["model.safetensors", "pytorch_model.bin"])
def test_hub_download_takes_one_kind_of_weights(
    monkeypatch, tmp_path, converted, weights
):
    asked = []

    def download(name, allow_patterns, local_files_only):
        asked.append(allow_patterns)
        assert not local_files_only
        folder = tmp_path / "snapshot"
        folder.mkdir(exist_ok=True)
        shutil.copy(converted / "config.json", folder)
        if weights in allow_patterns:
            (folder / weights).touch()
        return str(folder)

    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", lambda *a, **k: None)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    assert fetch_whisper("someone/whisper", tmp_path) == tmp_path / "snapshot"
    assert weights in asked[-1]
    assert len(asked) == (1 if weights == "model.safetensors" else 2)
    assert not any("msgpack" in p or ".h5" in p for patterns in asked for p in patterns)


@pytest.mark.parametrize("kind", ["converted", "ct2_folder"])
def test_cached_copy_is_found_offline(kind, no_hub, request, tmp_path):
    repo = no_hub / "models--someone--whisper"
    (repo / "refs").mkdir(parents=True)
    (repo / "refs" / "main").write_text("0" * 40)
    snapshot = repo / "snapshots" / ("0" * 40)
    shutil.copytree(request.getfixturevalue(kind), snapshot)
    folder = fetch_whisper("someone/whisper", tmp_path / "cache")
    converted_name = tmp_path / "cache" / "whisper-hf"
    assert folder == (snapshot if kind == "converted" else converted_name)


def test_unanswering_hub_is_given_up_soon(monkeypatch, no_hub):
    with socket.socket() as server:  # accepts, and never says a word
        server.bind(("127.0.0.1", 0))
        server.listen()
        endpoint = f"http://127.0.0.1:{server.getsockname()[1]}"
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", endpoint)
        monkeypatch.setattr(pretrained, "HUB_TIMEOUT", 0.3)
        start = time.monotonic()
        with pytest.raises(ModelNotFoundError, match="ReadTimeout"):
            fetch_whisper("someone/whisper")
        assert time.monotonic() - start < 10


def test_error_says_what_was_tried_and_what_works(no_hub):
    with pytest.raises(ModelNotFoundError) as error:
        fetch_whisper("someone/whisper")
    for part in (
        "local folder: there is none",
        "Hugging Face hub: OfflineModeIsEnabled",
        "CTranslate2 folder",
        'pip install "speechbrain-sumra[offline]"',
    ):
        assert part in str(error.value)


def test_path_is_not_taken_for_a_hub_name():
    with pytest.raises(ModelNotFoundError) as error:
        fetch_whisper("../no/such/folder")
    assert "Hugging Face hub:" not in str(error.value)


# ---- the offline packages


@pytest.fixture
def packages(ct2_folder, tmp_path, monkeypatch):
    """Two packages made like the real ones, around the tiny model."""
    names = ("tiny_whisper_part_1", "tiny_whisper_part_2")
    data = (ct2_folder / "model.bin").read_bytes()
    parts = (data[:5000], data[5000:])
    for number, (name, part) in enumerate(zip(names, parts, strict=True), start=1):
        folder = tmp_path / "site" / name / "data"
        folder.mkdir(parents=True)
        (folder.parent / "__init__.py").touch()
        (folder / f"model.bin.part{number}").write_bytes(part)
    for name in ("config.json", "tokenizer.json"):
        shutil.copy(ct2_folder / name, folder)
    known = {
        "model.bin": hashlib.sha256(data).hexdigest(),
        "tokenizer.json": hashlib.sha256(
            (ct2_folder / "tokenizer.json").read_bytes()
        ).hexdigest(),
    }
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    monkeypatch.setattr(pretrained, "OFFLINE_PACKAGES", names)
    monkeypatch.setattr(pretrained, "OFFLINE_SHA256", known)
    return tmp_path / "site"


def test_whisper_base_from_offline_packages(no_hub, packages, tiny, tmp_path):
    folder = fetch_whisper("openai/whisper-base", tmp_path / "cache")
    assert folder == tmp_path / "cache" / "whisper-base-hf"
    assert torch.equal(logits(load(folder)), logits(tiny))


@pytest.mark.parametrize("name", ["model.bin.part2", "tokenizer.json"])
def test_changed_offline_package_is_refused(no_hub, packages, name, tmp_path):
    file = packages / "tiny_whisper_part_2" / "data" / name
    file.write_bytes(file.read_bytes() + b" ")
    with pytest.raises(CorruptModelError, match="expected"):
        fetch_whisper("openai/whisper-base", tmp_path / "cache")
    file.unlink()
    with pytest.raises(CorruptModelError, match=f"{name} is missing"):
        fetch_whisper("openai/whisper-base", tmp_path / "cache")


def test_missing_offline_packages(no_hub, monkeypatch):
    monkeypatch.setattr(pretrained, "OFFLINE_PACKAGES", ("no_such_package",))
    with pytest.raises(ModelNotFoundError, match="no-such-package is not installed"):
        fetch_whisper("openai/whisper-base")


def test_offline_packages_hold_only_whisper_base(no_hub, packages, tmp_path):
    with pytest.raises(ModelNotFoundError):
        fetch_whisper("openai/whisper-small", tmp_path / "cache")


def test_number_of_timestamps():
    assert len(ctranslate2_to_huggingface.TIMESTAMPS) == 1501
    assert ctranslate2_to_huggingface.TIMESTAMPS[-1] == "<|30.00|>"
