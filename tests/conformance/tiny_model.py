"""Writes a tiny Llama as a Hugging Face directory: byte-level tokenizer, weights that are all alike.

With constant embeddings and a zero head every token is equally likely, so that sampling parameters show in the
probabilities that the server reports.
"""
import json
import struct

VOCAB = 259  # 256 bytes, <|bos|>, <|im_end|>, <|im_start|>
BOS, EOS, IM_START = 256, 257, 258
HIDDEN, HEADS, HEAD_DIM, MLP = 32, 2, 16, 32

CONFIG = {
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_act": "silu", "hidden_size": HIDDEN,
    "intermediate_size": MLP, "num_hidden_layers": 1, "num_attention_heads": HEADS, "num_key_value_heads": HEADS,
    "head_dim": HEAD_DIM, "vocab_size": VOCAB, "max_position_embeddings": 256, "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0, "tie_word_embeddings": False, "eos_token_id": EOS, "bos_token_id": BOS,
}


def byte_symbols():
    """GPT-2's printable stand-ins for the 256 bytes."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = iter(range(256, 512))
    return [chr(b) if b in printable else chr(next(others)) for b in range(256)]


def tokenizer_json():
    special = [{"id": 256 + i, "content": content, "single_word": False, "lstrip": False, "rstrip": False,
                "normalized": False, "special": True}
               for i, content in enumerate(("<|bos|>", "<|im_end|>", "<|im_start|>"))]
    return {
        "version": "1.0", "added_tokens": special, "normalizer": None,
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True},
        "post_processor": None, "decoder": {"type": "ByteLevel"},
        "model": {"type": "BPE", "vocab": {symbol: i for i, symbol in enumerate(byte_symbols())}, "merges": []},
    }


def tensors(head):
    """Name -> (shape, values); `head`: the value of the logit of each token."""
    prefix = "model.layers.0."
    shapes = {
        "model.embed_tokens.weight": (VOCAB, HIDDEN), "model.norm.weight": (HIDDEN,),
        prefix + "input_layernorm.weight": (HIDDEN,), prefix + "post_attention_layernorm.weight": (HIDDEN,),
        prefix + "mlp.gate_proj.weight": (MLP, HIDDEN), prefix + "mlp.up_proj.weight": (MLP, HIDDEN),
        prefix + "mlp.down_proj.weight": (HIDDEN, MLP),
        **{f"{prefix}self_attn.{name}_proj.weight": (HIDDEN, HIDDEN) for name in "qkvo"},
    }
    out = {}
    for name, shape in shapes.items():
        count = shape[0] * (shape[1] if len(shape) > 1 else 1)
        value = 1.0 if name.endswith("norm.weight") or "embed" in name else 0.0
        out[name] = (shape, [value] * count)
    # The last hidden state is all ones: the logit of a token is the sum of its row.
    out["lm_head.weight"] = ((VOCAB, HIDDEN), [head(token) / HIDDEN for token in range(VOCAB) for _ in range(HIDDEN)])
    return out


def safetensors(named):
    header, data = {}, b""
    for name, (shape, values) in named.items():
        raw = struct.pack(f"<{len(values)}f", *values)
        header[name] = {"dtype": "F32", "shape": list(shape), "data_offsets": [len(data), len(data) + len(raw)]}
        data += raw
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def write(directory, generation_config=None, head=lambda token: 0.0):
    """Returns the directory. `generation_config` becomes generation_config.json."""
    directory.mkdir(exist_ok=True)
    (directory / "config.json").write_text(json.dumps(CONFIG))
    (directory / "tokenizer.json").write_text(json.dumps(tokenizer_json()))
    (directory / "tokenizer_config.json").write_text(json.dumps({
        "bos_token": "<|bos|>", "eos_token": "<|im_end|>",
        "chat_template": "{% for m in messages %}{{ m['content'] }}{% endfor %}"}))
    (directory / "model.safetensors").write_bytes(safetensors(tensors(head)))
    if generation_config is not None:
        (directory / "generation_config.json").write_text(json.dumps(generation_config))
    return directory
