#!/usr/bin/env python3
"""Greedy continuations of the demo model by llama.cpp: tests/golden/greedy.json.

Needs llama-cpp-python==0.3.36. Usage: make_greedy_golden.py MODEL.gguf
Each entry: prompt token ids, the first 32 greedy tokens, and at each step the log-probabilities of the two best, so that
a reader can tell a wrong token from a near-tie that rounding decides.
"""
import json
import pathlib
import sys

import llama_cpp
import numpy as np

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


def main():
    llama = llama_cpp.Llama(sys.argv[1], n_ctx=2048, logits_all=False, verbose=False, n_threads=2)
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
        entries.append({"prompt": ids, "tokens": tokens, "top": top})
    out = pathlib.Path(__file__).with_name("greedy.json")
    out.write_text("[\n" + ",\n".join(json.dumps(e) for e in entries) + "\n]\n")


if __name__ == "__main__":
    main()
