#!/usr/bin/env python3
"""Greedy continuations of the demo model by llama.cpp: tests/golden/greedy.json.

Needs llama-cpp-python==0.3.36 and gguf==0.19.0. Usage: make_greedy_golden.py MODEL.gguf
Each entry: prompt token ids, the first 32 greedy tokens, at each step the log-probabilities of llama.cpp's two best, and
the log-probabilities of the same two by exact arithmetic (double precision on the dequantised weights, no quantised
activations). The last tell a wrong token from a near-tie that rounding decides, and how much each engine rounds.
"""
import json
import pathlib
import sys

import gguf
import llama_cpp
import numpy as np
from gguf.quants import dequantize

STEPS = 32
CHAT = "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n" \
       "<|im_start|>user\n{}<|im_end|>\n<|im_start|>assistant\n"
PROMPTS = [
    CHAT.format("Why is the sky blue?"),
    CHAT.format("Write a haiku about the sea."),
    CHAT.format("What is the capital of France?"),
    CHAT.format("List three prime numbers."),
    CHAT.format("Explain photosynthesis to a child in two sentences."),
    CHAT.format("Übersetze 'good morning' ins Deutsche."),
    "Once upon a time, in a small village by the river,",
    "def fibonacci(n):\n    \"\"\"Return the n-th Fibonacci number.\"\"\"\n",
    "The three laws of thermodynamics are",
    "1, 2, 3, 4, 5, 6, 7,",
    "Dear Sir or Madam,\n\nI am writing to",
    "In mathematics, a group is a set together with",
    "import numpy as np\n\nx = np.",
    "The quick brown fox jumps over the lazy dog. " * 12,
    "La tour Eiffel est située à",
    "SELECT name, age FROM users WHERE",
]


def log_softmax(logits):
    logits = logits.astype(np.float64)
    shifted = logits - logits.max()
    return shifted - np.log(np.exp(shifted).sum())


class ExactLlama:
    """The Llama forward pass (interleaved rotary pairs, as GGUF keeps them), straight from the definition."""

    def __init__(self, path):
        reader = gguf.GGUFReader(path)
        self.weights = {t.name: dequantize(t.data, t.tensor_type).astype(np.float64) for t in reader.tensors}

        def number(key):
            return float(reader.fields["llama." + key].parts[-1][0])

        self.layers, self.heads = int(number("block_count")), int(number("attention.head_count"))
        self.kv_heads, self.eps = int(number("attention.head_count_kv")), number("attention.layer_norm_rms_epsilon")
        self.theta, self.dim = number("rope.freq_base"), int(number("embedding_length")) // self.heads

    def norm(self, x, name):
        return x / np.sqrt((x * x).mean(-1, keepdims=True) + self.eps) * self.weights[name]

    def rope(self, x):
        angle = np.arange(x.shape[0])[:, None] * self.theta ** (-np.arange(0, self.dim, 2) / self.dim)
        cos, sin = np.cos(angle)[:, None], np.sin(angle)[:, None]
        out = np.empty_like(x)
        out[..., 0::2] = x[..., 0::2] * cos - x[..., 1::2] * sin
        out[..., 1::2] = x[..., 0::2] * sin + x[..., 1::2] * cos
        return out

    def logprobs(self, ids):
        """[tokens, vocabulary]"""
        n, w = len(ids), self.weights
        x = w["token_embd.weight"][ids]
        mask = np.triu(np.full((n, n), -np.inf), 1)
        for layer in range(self.layers):
            p = f"blk.{layer}."
            h = self.norm(x, p + "attn_norm.weight")
            q = self.rope((h @ w[p + "attn_q.weight"].T).reshape(n, self.heads, self.dim))
            k = self.rope((h @ w[p + "attn_k.weight"].T).reshape(n, self.kv_heads, self.dim))
            v = (h @ w[p + "attn_v.weight"].T).reshape(n, self.kv_heads, self.dim)
            out = np.empty_like(q)
            for head in range(self.heads):
                kv = head // (self.heads // self.kv_heads)
                scores = q[:, head] @ k[:, kv].T / np.sqrt(self.dim) + mask
                scores = np.exp(scores - scores.max(-1, keepdims=True))
                out[:, head] = scores / scores.sum(-1, keepdims=True) @ v[:, kv]
            x = x + out.reshape(n, -1) @ w[p + "attn_output.weight"].T
            h = self.norm(x, p + "ffn_norm.weight")
            gate = h @ w[p + "ffn_gate.weight"].T
            x = x + (gate / (1 + np.exp(-gate)) * (h @ w[p + "ffn_up.weight"].T)) @ w[p + "ffn_down.weight"].T
        head = w.get("output.weight", w["token_embd.weight"])
        return np.stack([log_softmax(row) for row in self.norm(x, "output_norm.weight") @ head.T])


def main():
    exact = ExactLlama(sys.argv[1])
    llama = llama_cpp.Llama(sys.argv[1], n_ctx=2048, logits_all=False, verbose=False, n_threads=1)
    entries = []
    for prompt in PROMPTS:
        ids = llama.tokenize(prompt.encode(), add_bos=False, special=True)
        llama.reset()
        llama.eval(ids)
        tokens, top = [], []
        for _ in range(STEPS):
            logits = np.ctypeslib.as_array(llama_cpp.llama_get_logits_ith(llama.ctx, -1), (llama.n_vocab(),))
            logprobs = log_softmax(logits)
            best = np.argsort(-logprobs, kind="stable")[:2]
            tokens.append(int(best[0]))
            top.append([[int(i), round(float(logprobs[i]), 4)] for i in best])
            if int(best[0]) == llama.token_eos():
                break
            llama.eval([int(best[0])])
        logprobs = exact.logprobs(ids + tokens)[len(ids) - 1:]
        exactly = [[round(float(row[i]), 4) for i, _ in best] for row, best in zip(logprobs, top)]
        entries.append({"prompt": ids, "tokens": tokens, "top": top, "exact": exactly})
    out = pathlib.Path(__file__).with_name("greedy.json")
    out.write_text("[\n" + ",\n".join(json.dumps(e) for e in entries) + "\n]\n")


if __name__ == "__main__":
    main()
