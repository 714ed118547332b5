"""tokenizers_peer.py GGUF TEXTS: MB/s of the `tokenizers` library on one thread, as JSON: script -> rate.

GGUF: whose vocabulary; TEXTS: a JSON object, script -> text, each repeated to TEXT_BYTES as host_bench does.
"""
import json
import os
import pathlib
import sys
import time

import gguf
import texts

PIECE = 4096  # characters of one call: the library is slower on a text of a megabyte
CONTROL, USER_DEFINED = 3, 4  # of tokenizer.ggml.token_type
# What comes before BPE, by tokenizer.ggml.pre.
BYTE_LEVEL = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
DIGITS = {"type": "Digits", "individual_digits": True}
PRE_TOKENIZERS = {"gpt-2": BYTE_LEVEL, "smollm": {"type": "Sequence", "pretokenizers": [DIGITS, BYTE_LEVEL]}}


def tokenizer_json(metadata):
    """The vocabulary of a GGUF file as a tokenizer.json. ValueError: of a kind that is not known here."""
    pre = metadata.get("tokenizer.ggml.pre")
    if metadata.get("tokenizer.ggml.model") != "gpt2" or pre not in PRE_TOKENIZERS:
        raise ValueError(f"a vocabulary like {pre!r} cannot be given to the tokenizers library")
    tokens = metadata["tokenizer.ggml.tokens"]
    added = [{"id": i, "content": tokens[i], "single_word": False, "lstrip": False, "rstrip": False, "normalized": False,
              "special": kind == CONTROL}
             for i, kind in enumerate(metadata["tokenizer.ggml.token_type"]) if kind in (CONTROL, USER_DEFINED)]
    return {"version": "1.0", "truncation": None, "padding": None, "added_tokens": added, "normalizer": None,
            "pre_tokenizer": PRE_TOKENIZERS[pre], "post_processor": None, "decoder": BYTE_LEVEL,
            "model": {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
                      "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False, "ignore_merges": False,
                      "vocab": {token: i for i, token in enumerate(tokens)},
                      "merges": [merge.split(" ", 1) for merge in metadata["tokenizer.ggml.merges"]]}}


def main():
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    os.environ["RAYON_NUM_THREADS"] = "1"
    import tokenizers  # of requirements.txt
    found = json.dumps(tokenizer_json(gguf.read_head(sys.argv[1]).metadata))
    rates = {}
    for script, text in json.loads(pathlib.Path(sys.argv[2]).read_text()).items():
        size = len(text.encode())
        text *= -(-texts.TEXT_BYTES // size)
        pieces = [text[i:i + PIECE] for i in range(0, len(text), PIECE)]
        tokenizer = tokenizers.Tokenizer.from_str(found)  # with an empty cache
        begin = time.perf_counter()
        for piece in pieces:
            tokenizer.encode_batch_fast([piece], add_special_tokens=False)  # no offsets: we do not compute them either
        rates[script] = len(text.encode()) / (time.perf_counter() - begin) / 1e6
    print(json.dumps(rates))


if __name__ == "__main__":
    main()
