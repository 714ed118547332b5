#!/usr/bin/env python3
"""Writes the seed corpora: sound inputs of each kind, and the hostile ones of tests/conformance that are small.

Run it in the environment of tests/conformance (requirements.txt). What fuzzing found is added to corpus/ by hand, as
found-*, and survives this.
"""
import json
import pathlib
import struct
import sys

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "conformance"))
import test_faults_files as files  # noqa: E402
import test_faults_http as http  # noqa: E402
import test_faults_text as text  # noqa: E402
import tiny_model  # noqa: E402
from conftest import load_stubs  # noqa: E402

MAX_BYTES = 3000
CHAT = {"model": "m", "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}]}
EVERYTHING = {"temperature": 0.5, "top_p": 0.9, "top_k": 5, "min_p": 0.1, "typical_p": 0.9, "seed": 3, "n": 2,
              "repetition_penalty": 1.1, "presence_penalty": -1, "frequency_penalty": 1, "logit_bias": {"5": -100},
              "stop": ["a", "\u20ac"], "stop_token_ids": [7], "max_tokens": 9, "min_tokens": 2, "ignore_eos": True,
              "stream": True, "stream_options": {"include_usage": True}, "metadata": {"a": "b"}, "user": "u",
              "priority": 3, "skip_special_tokens": False, "include_stop_str_in_output": True}


def slug(name):
    return "".join(c if c.isalnum() else "_" for c in str(name))[:40]


def gguf_files():
    rows = [files.info(b"token_embd.weight", [32, 4]), files.info(b"q", [32, 2], kind=2, offset=512)]
    keys = [files.NAME, files.entry(b"general.alignment", files.UINT32, struct.pack("<I", 32)),
            files.entry(b"llama.block_count", files.UINT32, struct.pack("<I", 1)),
            files.entry(b"llama.context_length", files.UINT32, struct.pack("<I", 64)),
            files.entry(b"llama.embedding_length", files.UINT32, struct.pack("<I", 32)),
            files.entry(b"llama.attention.layer_norm_rms_epsilon", 6, struct.pack("<f", 1e-5)),
            files.entry(b"words", files.ARRAY, struct.pack("<IQ", files.STRING, 2) + files.text(b"a") + files.text(b"bc"))]
    sound = files.gguf(*keys, tensors=rows)
    return {"sound": sound[:-3000], **{name: case[0][:512] for name, case in files.GGUFS.items()}}


def safetensors_files():
    tensors = {"a": ((2, 3), [1.0] * 6), "b.c": ((4,), [0.5] * 4)}
    sound = tiny_model.safetensors(tensors)
    header = {"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}

    def file(header, data=b"\0" * 16):
        body = (header if isinstance(header, str) else json.dumps(header)).encode()
        return struct.pack("<Q", len(body)) + body + data

    return {"sound": sound, "metadata": file({"__metadata__": {"format": "pt"}, **header}, b"\0" * 8),
            "types": file({t: {"dtype": t, "shape": [2], "data_offsets": [0, 4]} for t in ("F16", "BF16", "I64", "U8")}),
            "overlap": file({**header, "b": header["a"]}), "far": struct.pack("<Q", 1 << 62) + b"{}",
            "shape": file({"a": {"dtype": "F32", "shape": [1 << 33, 1 << 33], "data_offsets": [0, 8]}}),
            "deep": file('{"a":' * 60), "twice": file('{"a":{},"a":{}}'), "scalar": file({"a": {
                "dtype": "F32", "shape": [], "data_offsets": [0, 4]}}, b"\0" * 4)}


def tokenizer_files():
    def added(id, content, **more):
        return {"id": id, "content": content, "single_word": False, "lstrip": False, "rstrip": False,
                "normalized": False, "special": True, **more}

    bpe = {"version": "1.0", "added_tokens": [added(6, "<|end|>")], "normalizer": {"type": "NFC"},
           "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True},
           "post_processor": None, "decoder": {"type": "ByteLevel"},
           "model": {"type": "BPE", "vocab": {"a": 0, "b": 1, "ab": 2, "\u0120": 3, "\u0120a": 4, "\u00e9": 5},
                     "merges": ["a b", "\u0120 a"]}}
    pieces = {"<unk>": 0, "\u2581": 1, "a": 2, "\u2581a": 3, "<0x0A>": 4, "b": 5}
    sentence = {"version": "1.0", "added_tokens": [added(0, "<unk>"), added(6, "<s>", lstrip=True, normalized=True)],
                "normalizer": {"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": "\u2581"}, {
                    "type": "Replace", "pattern": {"String": " "}, "content": "\u2581"}]},
                "pre_tokenizer": None, "post_processor": None,
                "decoder": {"type": "Sequence", "decoders": [
                    {"type": "Replace", "pattern": {"String": "\u2581"}, "content": " "}, {"type": "ByteFallback"},
                    {"type": "Fuse"}, {"type": "Strip", "content": " ", "start": 1, "stop": 0}]},
                "model": {"type": "BPE", "unk_token": "<unk>", "fuse_unk": True, "byte_fallback": True,
                          "vocab": pieces, "merges": [["\u2581", "a"]]}}
    config = {"eos_token": "<|end|>", "add_bos_token": False}
    cases = {"bytes": (bpe, config, "ab aab <|end|> a"), "pieces": (sentence, {"bos_token": "<s>", "add_bos_token": True}, " a b\n<s> ab"),
             "no_model": ({"model": {}}, {}, ""), "no_config": (bpe, None, "\u20ac b" * 9)}

    def changed(name, base=bpe, text="ab a\u0301 <|end|>b 12", **parts):
        cases[name] = ({**base, **parts}, config, text)

    def model(**parts):
        return {**bpe["model"], **parts}
    for form in ("NFC", "NFD", "NFKC", "NFKD", "Lowercase", "Unknown"):
        changed(f"normalizer_{form}", normalizer={"type": form})
    for name, pattern in (("split", r"\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"), ("split_bad", "("), ("split_slow", "(a+)+b"),
                          ("split_empty", ""), ("split_look", "(?i:'s|'t)|(?=a)")):
        split = {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}
        changed(name, pre_tokenizer={"type": "Sequence", "pretokenizers": [split, {
            "type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}]})
    changed("digits", pre_tokenizer={"type": "Sequence", "pretokenizers": [{"type": "Digits", "individual_digits": True}]})
    changed("no_pre_tokenizer", pre_tokenizer=None)
    changed("template", post_processor={"type": "TemplateProcessing", "single": [
        {"SpecialToken": {"id": "<|end|>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}], "pair": [],
        "special_tokens": {"<|end|>": {"id": "<|end|>", "ids": [6], "tokens": ["<|end|>"]}}})
    changed("merge_of_none", model=model(merges=["a z"]))
    changed("merge_form", model=model(merges=["a b c", ["a"], 5]))
    changed("ids_twice", model=model(vocab={"a": 0, "b": 0}))
    changed("ids_holes", model=model(vocab={"a": 0, "b": 2 ** 31 - 1}))
    changed("ids_negative", model=model(vocab={"a": -1}))
    changed("ignore_merges", model=model(ignore_merges=True))
    changed("unigram", model={"type": "Unigram", "vocab": [["a", -1.0]], "unk_id": 0})
    changed("word_level", model={"type": "WordLevel", "vocab": {"a": 0}})
    changed("prefixes", model=model(continuing_subword_prefix="##", end_of_word_suffix="</w>"))
    changed("added_twice", added_tokens=[added(6, "<|end|>"), added(7, "<|end|>")])
    changed("added_overlap", added_tokens=[added(6, "<a"), added(7, "<a>", rstrip=True), added(8, "a>", single_word=True)], text="<a> <a>>")
    changed("added_empty", added_tokens=[added(6, "")])
    changed("added_within", added_tokens=[added(2, "ab", special=False)])
    changed("pieces_of_bytes", base=sentence, text="\n\n\u20ac")
    changed("replace", base=sentence, normalizer={"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": "\u2581"}, text="a    b")
    changed("invalid_text", text="\ufffd\u0000a"[:1] + "\ufeff\u202ea")
    changed("long", text="ab " * 400)
    return {name: b"\0".join((json.dumps(t).encode(), b"" if c is None else json.dumps(c).encode(), s.encode()))
            for name, (t, c, s) in cases.items()}


def jinja_files():
    variables = json.dumps({"messages": CHAT["messages"], "add_generation_prompt": True, "bos_token": "<s>"})
    out = {name: template.encode() for name, template in {**text.ATTACKS, **text.HARMLESS}.items()}
    out.update((f"refused_{i}", template.encode()) for i, template in enumerate(text.REFUSED))
    for path in sorted((HERE.parent / "golden/jinja/templates").iterdir()):
        out[path.stem] = path.read_bytes() + b"\0" + variables.encode()
    expressions = ["x | length", "[1, 2.5, 'a'] | join('-')", "x['a'] is defined and not y", "'%5.2f|%s' % (1.5, none)",
                   "'{:>8,}'.format(10**6)", "{'a': 1}.items() | list | tojson(indent=2)", "range(9)[::-2] | map('string') | list",
                   "'aXb'.split('X') | first | upper", "messages | selectattr('role', 'equalto', 'user') | map(attribute='content') | list"]
    out["expressions"] = "".join("{{ %s }}\n" % e for e in expressions).encode()
    return out


def chat_request_files():
    out = {"chat": CHAT, "everything": {**CHAT, **EVERYTHING, "top_logprobs": 2, "logprobs": True},
           "completion": {"model": "m", "prompt": "Hi", **EVERYTHING, "logprobs": 2, "echo": True, "stream": False},
           "ids": {"model": "m", "prompt": [[1, 2], [3]]}, "batch": {"model": "m", "prompt": ["a", "b"], "best_of": 3},
           "parts": {"model": "m", "messages": [{"role": "user", "content": [{"type": "text", "text": "a"}]}]},
           "continue": {**CHAT, "messages": CHAT["messages"] + [{"role": "assistant", "content": "Hel"}],
                        "continue_final_message": True, "chat_template_kwargs": {"x": [1, {"y": None}]}},
           "tokenize": {"prompt": "Hi", "return_token_strs": True}, "detokenize": {"tokens": [1, 2]}}
    return {**{name: json.dumps(body).encode() for name, body in out.items()}, **http.JSON}


def http_files():
    # The first byte of an input also says how it is cut.
    return {"pipeline": http.HEALTH + b"\r\n" + http.post(http.BODY, close=False) + http.chunked(b"5\r\nhello\r\n0\r\n\r\n"),
            "continue": http.post(http.BODY, b"Expect: 100-continue\r\n"), "absolute": b"GET http://x/a?b HTTP/1.0\r\n\r\n",
            "headers": http.HEALTH + b"Authorization: Bearer k\r\nX-Request-Id: a\r\nIf-None-Match: \"x\"\r\n\r\n",
            "trailer": http.chunked(b"2;a=b\r\nhi\r\n0\r\nX: y\r\n\r\n"),
            **{name: data for name, (_, data) in http.HEADS.items()},
            **{f"chunked {name}": http.chunked(data) for name, data in http.CHUNKED.items()}}


def detokenizer_files():
    return {"plain": b"\0stop\0\0hello stop there", "euro": b"\3\xe2\x82\xac!\0\0a\xe2\x82\xac!b", "held": b"\2ab\0abc\0ababd",
            "half": b"\0\0\0abc\xe2\x82", "both_stops": b"\1ab\0abab\0xababab", "stop_in_stop": b"\0bc\0abcd\0aabcabcd",
            "stop_at_once": b"\1a\0\0a", "stop_never": b"\0zz\0zzz\0zyzyz", "stop_of_half": b"\0\x82\xac\0\0\xe2\x82\xac",
            "token_and_bytes": b"\0\xe2\x82\xac\0\0\xff\6\xac\xff\6\xe2", "special_shown": b"\0<|end|>\0\0a\xff\x08b",
            "special_hidden": b"\2<|end|>\0\0a\xff\x08b", "special_within": b"\2st\0\0s\xff\x08top", "unknown_ids": b"\3\0\0\xff\x09\xff\x0a\xff\x0b",
            "four_bytes": b"\0\xf0\x9f\x98\x80\0\0\xf0\x9f\x98\x80\xf0\x9f\x98", "overlong": b"\0\0\0\xc0\x80\xe0\x80\x80\xf8\x88\x80\x80\x80",
            "surrogate": b"\0\0\0\xed\xa0\x80\xed\xb0\x80", "replacement_stop": b"\0\xef\xbf\xbd\0\0\xff\x04a\x80", "long": b"\1ab\0ba\0" + b"a" * 500 + b"b",
            "alternating": b"\0xy\0\0" + b"x\xe2\x82" * 60, "nothing": b"\0\0\0", "tokens": b"\1stop\0s\0\xff\6\xff\7\xff\x0astop", "invalid": b"\0\xff\xfe\0\xef\xbf\xbd\0\xff\x04a"}


def config_files():
    yaml = {"serve": "model: /m\nhttp-port: 9000\nkv-cache-memory: 2GiB\nserved-model-name: [a, b]\nprefix-cache: off\n",
            "types": "max-running: 1e3\ntemperature: .nan\npage: yes\nstop:\n  - \"a\\n\"\n  - 'b'\n", "empty": "# nothing\n",
            "unknown": "http-prt: 1\n", "twice": "page: on\npage: off\n", "alias": "a: &a [x]\nstop: *a\n", "tag": "page: !!python/object x\n",
            "list": "- a\n- b\n", "deep": "[" * 300, "maps": "{a: " * 300, "documents": "---\npage: on\n---\npage: off\n",
            "merge": "<<: {page: on}\n", "bombs": "a: &a [x,x]\nb: &b [*a,*a]\nstop: [*b,*b]\n", "block": "stop: |\n  a\n  b\n",
            "tabs": "page:\ton\n\thost: x\n", "controls": "host: \"\\x01\\u202e\"\n"}
    return {name: document.encode() for name, document in yaml.items()}


def protobuf_files():
    pb = load_stubs()[0]
    chat = pb.Chat(messages=[pb.ChatMessage(**m) for m in CHAT["messages"]], template_kwargs_json='{"x": [1, null]}')
    sampling = pb.SamplingParams(temperature=0.5, top_p=0.9, top_k=-1, min_p=0.1, typical_p=0.9, repetition_penalty=1.1,
                                 presence_penalty=-1, frequency_penalty=1, seed=3, logprobs=2, prompt_logprobs=True,
                                 logit_bias=[pb.LogitBias(token_id=5, bias=-100)])
    requests = {"prompt": pb.GenerateRequest(prompt="Hi", max_tokens=4), "chat": pb.GenerateRequest(chat=chat),
                "ids": pb.GenerateRequest(token_ids=pb.TokenIds(ids=[1, 2, -1, 259])), "nothing": pb.GenerateRequest(model="m"),
                "everything": pb.GenerateRequest(request_id="r", model="m", prompt="Hi", sampling=sampling, max_tokens=9,
                                                 min_tokens=2, stop=["a"], stop_token_ids=[7], ignore_eos=True, n=2, echo=True,
                                                 priority=3, best_of=3, include_stop_in_output=True, keep_special_tokens=True)}
    for name, fields in {"defaults": {}, "empty_prompt": {"prompt": ""}, "long_prompt": {"prompt": "word " * 300}, "control": {"prompt": "\u0000\u202e"},
                         "n_zero": {"prompt": "x", "n": 0}, "n_many": {"prompt": "x", "n": 2 ** 31 - 1},
                         "max_negative": {"prompt": "x", "max_tokens": -1}, "min_over_max": {"prompt": "x", "min_tokens": 9, "max_tokens": 2},
                         "stops": {"prompt": "x", "stop": ["", "\n", "s" * 300] + ["z"] * 20}, "stop_ids": {"prompt": "x", "stop_token_ids": [-1, 2 ** 31 - 1]},
                         "id_long": {"prompt": "x", "request_id": "r" * 600}, "id_control": {"prompt": "x", "request_id": "a\nb"},
                         "best_of_one": {"prompt": "x", "n": 3, "best_of": 1}, "other_model": {"prompt": "x", "model": "none"}}.items():
        requests[name] = pb.GenerateRequest(**fields)
    for name, fields in {"nan": {"temperature": float("nan")}, "infinite": {"temperature": float("inf")}, "top_p_zero": {"top_p": 0}, "top_k": {"top_k": -7},
                         "min_p": {"min_p": 2}, "penalty": {"repetition_penalty": 0}, "logprobs": {"logprobs": 10 ** 6}, "seed": {"seed": 2 ** 63 - 1},
                         "bias_all": {"logit_bias": [pb.LogitBias(token_id=i, bias=-100) for i in range(259)]},
                         "bias_beyond": {"logit_bias": [pb.LogitBias(token_id=10 ** 6, bias=float("nan"))]}}.items():
        requests[f"sampling_{name}"] = pb.GenerateRequest(prompt="x", sampling=pb.SamplingParams(**fields))
    for name, messages in {"no_message": [], "no_role": [pb.ChatMessage(content="x")], "odd_role": [pb.ChatMessage(role="\u001b[2J", content="x")],
                           "many": [pb.ChatMessage(role="user", content="x")] * 60}.items():
        requests[f"chat_{name}"] = pb.GenerateRequest(chat=pb.Chat(messages=messages))
    for name, kwargs in {"array": "[]", "broken": "{", "deep": '{"a":' * 100, "number": '{"x": 1e999}'}.items():
        requests[f"kwargs_{name}"] = pb.GenerateRequest(chat=pb.Chat(messages=chat.messages, template_kwargs_json=kwargs))
    requests["ids_none"] = pb.GenerateRequest(token_ids=pb.TokenIds())
    requests["ids_many"] = pb.GenerateRequest(token_ids=pb.TokenIds(ids=[i % 259 for i in range(900)]))
    return {name: request.SerializeToString() for name, request in requests.items()}


def listing_files():
    sha = "0123456789abcdef0123456789abcdef01234567"
    lfs = {"rfilename": "model.safetensors", "size": 9, "blobId": sha, "lfs": {"sha256": sha + sha[:24], "size": 9, "pointerSize": 130}}
    small = {"rfilename": "config.json", "size": 2, "blobId": sha}

    def hub(*siblings, **more):
        return json.dumps({"id": "org/name", "sha": sha, "siblings": list(siblings), **more}).encode()

    def page(*keys, token="", truncated="false", head=""):
        entries = "".join(f"<Contents><Key>{key}</Key><Size>5</Size></Contents>" for key in keys)
        return (f"{head}<ListBucketResult><IsTruncated>{truncated}</IsTruncated><NextContinuationToken>{token}"
                f"</NextContinuationToken>{entries}</ListBucketResult>").encode()
    return {"hub": hub(lfs, small), "hub_gguf": hub({"rfilename": "a.gguf", "size": 2 ** 63 - 1}), "hub_twice": hub(lfs, lfs),
            "hub_names": hub(*({"rfilename": name} for name in ("../x", "a\\b", "\u009b2J", "\u202e", "", ".git", "a//b", 5))),
            "hub_sizes": hub(*({**small, "size": size} for size in (-1, 1e99, 2 ** 64, "5", None))),
            "hub_sums": hub({**small, "blobId": "x"}, {**lfs, "lfs": {"sha256": 5}}), "hub_sha": hub(sha="../.."),
            "hub_deep": b'{"sha":"a","siblings":' + b"[" * 100, "hub_none": b"{}",
            "page": page("model.safetensors", "config.json"), "page_more": page("a.gguf", token="t/+=", truncated="true"),
            "page_names": page("../x", "a//b", "&#x9b;", "&#8238;", "&lt;", ".x"), "page_none": b"<ListBucketResult/>",
            "page_entity": page("&a;", head="<!DOCTYPE x [<!ENTITY a 'aaaa'>]>"), "page_cut": page("a.gguf")[:-20],
            "page_deep": b"<a>" * 500, "page_cdata": page("<![CDATA[model.safetensors]]>")}


def main():
    corpora = {"gguf": gguf_files, "safetensors": safetensors_files, "tokenizer_json": tokenizer_files, "jinja": jinja_files,
               "chat_request": chat_request_files, "http": http_files, "detokenizer": detokenizer_files,
               "config": config_files, "listing": listing_files, "protobuf": protobuf_files}
    total = 0
    for target, make in corpora.items():
        folder = HERE / "corpus" / target
        folder.mkdir(parents=True, exist_ok=True)
        for old in folder.iterdir():
            if not old.name.startswith("found-"):
                old.unlink()
        for name, data in make().items():
            if len(data) <= MAX_BYTES:
                (folder / slug(name)).write_bytes(data)
                total += len(data)
    print(f"{total} bytes")


if __name__ == "__main__":
    main()
