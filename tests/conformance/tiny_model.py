"""Writes tiny Llamas as Hugging Face directories, with a tokenizer of bytes.

write: constant embeddings, so that every position has the logits that the test chose and sampling parameters show in
the probabilities that the server reports. write_random: random weights, a model like any other.
"""
import json
import math
import random
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
RANDOM_CONFIG = {**CONFIG, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2,
                 "num_attention_heads": 4, "max_position_embeddings": 2048}


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


def shapes(config):
    """Name -> shape of every tensor."""
    hidden, mlp, vocab = config["hidden_size"], config["intermediate_size"], config["vocab_size"]
    queries = config["num_attention_heads"] * config["head_dim"]
    keys = config["num_key_value_heads"] * config["head_dim"]
    out = {"model.embed_tokens.weight": (vocab, hidden), "model.norm.weight": (hidden,)}
    for layer in range(config["num_hidden_layers"]):
        prefix = f"model.layers.{layer}."
        out |= {
            prefix + "input_layernorm.weight": (hidden,), prefix + "post_attention_layernorm.weight": (hidden,),
            prefix + "mlp.gate_proj.weight": (mlp, hidden), prefix + "mlp.up_proj.weight": (mlp, hidden),
            prefix + "mlp.down_proj.weight": (hidden, mlp),
            prefix + "self_attn.q_proj.weight": (queries, hidden), prefix + "self_attn.k_proj.weight": (keys, hidden),
            prefix + "self_attn.v_proj.weight": (keys, hidden), prefix + "self_attn.o_proj.weight": (hidden, queries)}
    return out | {"lm_head.weight": (vocab, hidden)}


def flat_tensors(head):
    """Name -> (shape, values); `head`: the value of the logit of each token."""
    out = {}
    for name, shape in shapes(CONFIG).items():
        value = 1.0 if name.endswith("norm.weight") or "embed" in name else 0.0
        out[name] = (shape, [value] * math.prod(shape))
    # The last hidden state is all ones: the logit of a token is the sum of its row.
    out["lm_head.weight"] = ((VOCAB, HIDDEN), [head(token) / HIDDEN for token in range(VOCAB) for _ in range(HIDDEN)])
    return out


def random_tensors(config=RANDOM_CONFIG, poison=None):
    """As flat_tensors, at random. Only visible ASCII has likely logits, so that the text shows the tokens.
    `poison`: a token whose embedding is NaN, so that whatever has it in its context has no logits."""
    rng = random.Random(1)
    out = {}
    for name, shape in shapes(config).items():
        spread = 1.0 if name.endswith("norm.weight") or "embed" in name else 1.5 / math.sqrt(shape[-1])
        out[name] = (shape, [1.0 if "norm" in name else rng.gauss(0, spread) for _ in range(math.prod(shape))])
    head = out["lm_head.weight"][1]
    width = config["hidden_size"]
    for token in range(VOCAB):
        if not 32 < token < 127:
            head[token * width:(token + 1) * width] = [0.0] * width
    if poison is not None:
        # The first component is the same positive number everywhere, so that one weight keeps the token from being
        # sampled.
        embedding = out["model.embed_tokens.weight"][1]
        embedding[::width], head[::width] = [1.0] * VOCAB, [0.0] * VOCAB
        for name, (shape, values) in out.items():
            if name.endswith(("o_proj.weight", "down_proj.weight")):
                values[:shape[1]] = [0.0] * shape[1]
        head[poison * width:(poison + 1) * width] = [-1000.0] + [0.0] * (width - 1)
        embedding[poison * width:(poison + 1) * width] = [math.nan] * width
    return out


def safetensors(named, dtype):
    header, data = {}, b""
    for name, (shape, values) in named.items():
        raw = struct.pack(f"<{len(values)}{({'F32': 'f', 'F16': 'e'})[dtype]}", *values)
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [len(data), len(data) + len(raw)]}
        data += raw
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def write(directory, generation_config=None, head=lambda token: 0.0):
    """The model whose logits are `head` at every position. Returns the directory."""
    return write_directory(directory, CONFIG, flat_tensors(head), generation_config)


def write_random(directory, poison=None, dtype="F32", **config):
    """A model whose every token depends on all before it, for runs too slow for the demo model (sanitizers)."""
    config = {**RANDOM_CONFIG, **config}
    return write_directory(directory, config, random_tensors(config, poison), None, dtype)


def write_directory(directory, config, tensors, generation_config, dtype="F32"):
    directory.mkdir(exist_ok=True)
    (directory / "config.json").write_text(json.dumps(config))
    (directory / "tokenizer.json").write_text(json.dumps(tokenizer_json()))
    (directory / "tokenizer_config.json").write_text(json.dumps({
        "bos_token": "<|bos|>", "eos_token": "<|im_end|>",
        "chat_template": "{% for m in messages %}{{ m['content'] }}{% endfor %}"}))
    (directory / "model.safetensors").write_bytes(safetensors(tensors, dtype))
    if generation_config is not None:
        (directory / "generation_config.json").write_text(json.dumps(generation_config))
    return directory
