"""A tiny random Whisper, and a writer of CTranslate2's format."""

import json
import struct

import numpy as np
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import WhisperConfig, WhisperForConditionalGeneration
from transformers.models.whisper.tokenization_whisper import LANGUAGES

from speechbrain_sumra.pretrained.ctranslate2_format import TYPE_NAMES

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
