#!/usr/bin/env python3
"""Makes tests/golden/tokenizer/: small tokenizers with the published pipelines, and what the reference makes of 12,000
texts with them.

    pip install tokenizers==0.23.3 sentencepiece==0.2.3 gguf==0.19.0
    tests/golden/make_tokenizer_golden.py                 # writes the .hash files; trains a tokenizer where none is there
    tests/golden/make_tokenizer_golden.py model.gguf OUT  # the .hash of a real byte-level GGUF vocabulary, to OUT

The texts are not stored: text i follows from fragments.bin by the generator below, which golden_texts.h repeats in C++.
A .hash file holds little-endian uint32: FNV-1a of the ids of each text as a prompt (special tokens parsed, bos/eos
added), then of each text as a user's words (special tokens are text, nothing added). 0: the reference is out of date.
"""
import json
import pathlib
import pydoc_data.topics
import re
import struct
import sys
import unicodedata

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

OUT = pathlib.Path(__file__).parent / "tokenizer"
NUM_TEXTS = 12000
VOCAB_SIZE = 1200
MASK = (1 << 64) - 1
EXEMPT = 0  # in place of a hash: not compared

FRAGMENTS = [
    # Words of many scripts.
    "the", " quick", " brown fox", "Hello", " world", "HELLO", "tokenizer", " antidisestablishmentarianism", "McDonald",
    "camelCaseWord", "HTTPServer", "XMLHttpRequest", "snake_case_name", "kebab-case", "naïve", " café", "Straße", "GROẞ",
    "Ünïcödé", "ǅ", "ǆ", "ﬁ", "ŉ", "İstanbul", "ıI", "Ελληνικά", " ΌΣΟΣ", "ς", "Привет", " мир", "Ёлка", "Україна", "שלום",
    "עִבְרִית", "مرحبا", " بالعالم", "العَرَبِيَّة", "فارسی", "اردو", "हिन्दी", " नमस्ते", "দেশ", "தமிழ்", "తెలుగు", "ಕನ್ನಡ", "മലയാളം",
    "සිංහල", "ภาษาไทย", "ສະບາຍດີ", "မြန်မာ", "ខ្មែរ", "བོད་ཡིག", "ქართული", "Ქართული", "Հայերեն", "አማርኛ", "ᏣᎳᎩ", "ꮳꮃꭹ", "ᐃᓄᒃᑎᑐᑦ",
    "中文", "你好，世界", "漢字かな交じり文", "カタカナ", "ｶﾀｶﾅ", "ひらがな", "한국어", "각", "각", "안녕하세요", "粵語", "𠀀𠮷", "𰻝", "𮯰",
    "Tiếng Việt", "Tiếng Việt", "Türkçe", "Íslenska", "ʻŌlelo", "ⲘⲚⲦ", "𐌰𐌱", "𝔘𝔫𝔦", "𝟙𝟚", "ᴬᴮ", "ʰʷ",
    # Marks and joiners.
    "é", "é", "q̣̇", "q̣̇", "Å", "Å", "Å", "a̐éö̲", "\u0301", "\u0301\u0323", "\u0323\u0301", "x\u0345\u0301", "\u200d", "\u200c", "\u200b",
    "\ufeff", "\u00ad", "\u2060", "\u180e", " \u180ea", "z̸̢̛͔a̵", "\u0f71\u0f72", "क़", "\u2126", "\u212a", "\u037e", "\u1fef",
    # Emoji.
    "🙂", " 😀😁", "👍🏽", "👩‍👩‍👧‍👦", "🧑🏿‍🚀", "🏳️‍🌈", "🇺🇦🇯🇵", "❤️", "☺", "1️⃣", "🫠", "⌚", "©", "™", "ⓐⒶ", "🅰",
    # Contractions.
    "'s", "'S", "'t", "'T", "'re", "'RE", "'ve", "'vE", "'m", "'M", "'ll", "'lL", "'d", "'D", "'ſ", "’s", "don't", "I'm", " we'll",
    "they'VE", "'", "''", "'x", "'l", "'r",
    # Numbers.
    "0", "7", "12", "123", "1234", "1234567890", " 42", "3.14159", "1,000,000", "1e-9", "0x1F", "½", "Ⅷ", "²³", "٣٤", "१२३", "１２", "一二",
    "𑷠", "\U000105c0", "\U00010d40", "①", "৪৫",
    # White space.
    " ", "  ", "   ", "    ", "        ", "\n", "\n\n", "\r\n", "\r", "\t", "\t\t", " \n", "\n ", " \n \n  ", "\r\n\r\n", "\u00a0", "\u3000", "\u2003",
    "\u2028", "\u2029", "\x0b", "\x0c", "\x85", "\x1c", "\u1680", "\u202f", "a ", " a", "  a", "\n\n\na", " \t b",
    # Punctuation and symbols.
    ".", ",", "!", "?", "...", "?!", "--", "—", "(", ")", "[]", "{}", "<", ">", "</", "/>", "/", "//", "\\", "|", "||", "&&", "==", "!=", "=>", "->", "::",
    ";", ":", "\"", "“quoted”", "`", "```", "~", "@", "#", "$", "%", "^", "&", "*", "**", "_", "__", "+", "-", "=", "€", "£", "¥", "№", "。", "、", "！", "…",
    "¿", "«", "»", "†", "§", "¶", "°", "±", "×", "÷", "≠", "∞", "∑", "√", "→", "⇒", "█", "▁", "▁▁", "a▁b", "��", "\ufffd",
    ".\n", "!\r\n\r\n", "/\n", ".\n/\n", " ...\n",
    # Code and markup.
    "def f(x):\n    return x + 1\n", "for (int i = 0; i < n; ++i) {\n\t\tsum += a[i];\n}", "#include <vector>\n", "SELECT * FROM t WHERE id=7;",
    "<div class=\"a\">", "</div>", "&nbsp;", "https://example.org/a?b=c&d=%20#e", "user@example.org", "{\"key\": [1, 2.5, null]}", "\\frac{a}{b}",
    "if x == None:", "lambda: 0", "#!/bin/sh\n", "C:\\Users\\x", "../a/b.txt", "v1.2.3-rc1", "2024-02-30T12:34:56Z", "| a | b |\n|---|---|\n",
    "- [x] done\n", "## Title\n\n", "1. one\n2. two\n", "a=b;c=d", "fn main() {}\n", "0b1010", "user_id::<T>", "%s%d\n", "\x1b[31mred\x1b[0m",
    # Control characters.
    "\x00", "\x01", "\x07", "\x08", "\x1f", "\x7f", "\x80", "\x9f", "\ue000", "\ufff9", "\uffff", "\U0010ffff", "\U000e0041", "\u0378",
    # Text that looks like special tokens.
    "<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|im_end|> ", " <|im_start|>user\n", "<|im_", "|>", "<|begin_of_text|>", "<|eot_id|>", "<s>", "</s>",
    "<unk>", "<s", "<pad>", "[INST]", " [/INST]", "<tool_call>", "</tool_call>", "<0x41>", "<bos>", "<start_of_turn>", "<strip>", " <strip> ", "<word>", "a<word>",
    " <word>.", "<normal é>", "<normal é>",
]

# Ranges from which one kind of item draws neighbouring characters: where marks, letters and numbers alternate.
RUN_CHARACTERS = [" ", "\n", "a", "A", "0", "\t", "é", "中", "!", "▁", "\u0301", "🙂", "=", "ab", "\r\n", " \n"]
SPACES = [" ", " ", " ", "\n", "\r", "\t", "\u00a0", "\u3000", "\u2028", "\x0b", "\x85"]


class SplitMix64:
    def __init__(self, seed):
        self.state = seed & MASK

    def below(self, n):
        self.state = (self.state + 0x9E3779B97F4A7C15) & MASK
        z = self.state
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
        return (z ^ (z >> 31)) % n


def scalar(c):
    return "?" if 0xD800 <= c < 0xE000 else chr(c)


def item(rng):
    kind = rng.below(16)
    if kind < 10:
        return FRAGMENTS[rng.below(len(FRAGMENTS))]
    if kind == 10:
        return scalar(rng.below(0x110000))
    if kind == 11:
        base = rng.below(0x300) << 4
        return "".join(scalar(base + rng.below(16)) for _ in range(1 + rng.below(6)))
    if kind == 12:
        run = RUN_CHARACTERS[rng.below(len(RUN_CHARACTERS))]
        return run * (1 + rng.below(60))
    if kind == 13:
        return "".join(chr(32 + rng.below(95)) for _ in range(1 + rng.below(12)))
    if kind == 14:
        return "".join(SPACES[rng.below(len(SPACES))] for _ in range(1 + rng.below(8)))
    return "".join(chr(48 + rng.below(10)) for _ in range(1 + rng.below(12)))


def text(i):
    rng = SplitMix64(i)
    parts = "".join(item(rng) for _ in range(rng.below(20)))
    return parts * 30 if i % 200 == 199 else parts


def write_fragments():
    out = b""
    for group in (FRAGMENTS, RUN_CHARACTERS, SPACES):
        out += struct.pack("<I", len(group))
        for s in group:
            raw = s.encode()
            out += struct.pack("<H", len(raw)) + raw
    (OUT / "fragments.bin").write_bytes(out)


# --- The pipelines, as in the published tokenizer.json files ------------------------------------------------------------

CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
TAIL = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
LLAMA3 = CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}" + TAIL
QWEN2 = CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}" + TAIL
HEAD_CLASS, TAIL_CLASS = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
O200K = "|".join([
    r"[^\r\n\p{L}\p{N}]?" + HEAD_CLASS + "*" + TAIL_CLASS + "+" + CONTRACTIONS + "?",
    r"[^\r\n\p{L}\p{N}]?" + HEAD_CLASS + "+" + TAIL_CLASS + "*" + CONTRACTIONS + "?",
    r"\p{N}{1,3}", r" ?[^\s\p{L}\p{N}]+[\r\n/]*", r"\s*[\r\n]+", r"\s+(?!\S)", r"\s+"])


def split(pattern, behavior="isolated", invert=False):
    return pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(pattern), behavior, invert=invert),
                                    pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])


def special(*contents, **flags):
    return [AddedToken(c, special=True, normalized=False, **flags) for c in contents]


def bos_template(token, identifier):
    return processors.TemplateProcessing(single=f"{token} $A", special_tokens=[(token, identifier)])


def corpus():
    """Prose about Python, and further texts of the generator without their markup: no token may spell a special one."""
    markup = re.compile(r"<[^ ]*>|\[/?INST\]")
    yield from pydoc_data.topics.topics.values()
    for i in range(NUM_TEXTS, NUM_TEXTS + 3000):
        yield markup.sub(" ", text(i))


def byte_level(pre_tokenizer, added, normalizer=None, ignore_merges=False, bos=None):
    t = Tokenizer(models.BPE(ignore_merges=ignore_merges))
    t.pre_tokenizer, t.decoder = pre_tokenizer, decoders.ByteLevel()
    if normalizer is not None:
        t.normalizer = normalizer
    t.train_from_iterator(corpus(), trainers.BpeTrainer(
        vocab_size=VOCAB_SIZE, show_progress=False, initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
    t.add_tokens(added)
    if bos is not None:
        t.post_processor = processors.Sequence([processors.ByteLevel(trim_offsets=False),
                                                bos_template(bos, t.token_to_id(bos))])
    return t


def sentencepiece_style(normalizer, pre_tokenizer, decoder, added, bos):
    """A vocabulary with <unk>, <s>, </s>, 256 byte tokens and merges of words; trained on words, used on whole texts."""
    t = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    t.pre_tokenizer = pre_tokenizers.Metaspace()
    first = ["<unk>", "<s>", "</s>"] + [f"<0x{b:02X}>" for b in range(256)]
    t.train_from_iterator(corpus(), trainers.BpeTrainer(
        vocab_size=VOCAB_SIZE, show_progress=False, special_tokens=first, limit_alphabet=300,
        initial_alphabet=["▁"]))
    spec = json.loads(t.to_str())
    spec["added_tokens"] = [a for a in spec["added_tokens"] if a["id"] < 3]
    t = Tokenizer.from_str(json.dumps(spec))
    if normalizer is not None:
        t.normalizer = normalizer
    t.pre_tokenizer = pre_tokenizer
    t.decoder = decoder
    t.add_tokens(added)
    if bos:
        t.post_processor = bos_template("<s>", 1)
    return t


def llama_decoder(strip):
    steps = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    return decoders.Sequence(steps + ([decoders.Strip(" ", 1, 0)] if strip else []))


CHATML = special("<|endoftext|>", "<|im_start|>", "<|im_end|>")
TOKENIZERS = {
    "gpt2": lambda: byte_level(
        pre_tokenizers.ByteLevel(add_prefix_space=False),
        [AddedToken("<|endoftext|>", special=True, normalized=True), AddedToken("<strip>", lstrip=True, rstrip=True),
         AddedToken("<word>", single_word=True), AddedToken("<|im_end|>", special=True, rstrip=True, normalized=False)]),
    "gpt2_prefix": lambda: byte_level(pre_tokenizers.ByteLevel(add_prefix_space=True), CHATML),
    "smollm": lambda: byte_level(
        pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True),
                                 pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)]), CHATML),
    "llama3": lambda: byte_level(split(LLAMA3), special("<|begin_of_text|>", "<|eot_id|>"), ignore_merges=True,
                                 bos="<|begin_of_text|>"),
    "qwen2": lambda: byte_level(
        split(QWEN2), CHATML + [AddedToken("<tool_call>", normalized=False), AddedToken("</tool_call>", normalized=False),
                                AddedToken("<normal é>", normalized=True)], normalizer=normalizers.NFC()),
    "cl100k": lambda: byte_level(split(LLAMA3, "removed", True), CHATML),
    "o200k": lambda: byte_level(split(O200K), CHATML),
    "llama2": lambda: sentencepiece_style(
        normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]), None, llama_decoder(True),
        [AddedToken("[INST]", special=True, normalized=False), AddedToken("<tool_call>", normalized=True)], True),
    "metaspace": lambda: sentencepiece_style(
        None, pre_tokenizers.Metaspace(prepend_scheme="first", split=False), llama_decoder(True), CHATML, True),
    "metaspace_split": lambda: sentencepiece_style(
        None, pre_tokenizers.Metaspace(prepend_scheme="always", split=True), decoders.Metaspace(), CHATML, False),
    "gemma": lambda: sentencepiece_style(
        normalizers.Replace(" ", "▁"), pre_tokenizers.Split(" ", "merged_with_previous"), llama_decoder(False),
        special("<bos>", "<start_of_turn>") + [AddedToken("\n" * n, normalized=False) for n in range(2, 8)], True),
}


def hash_of(ids):
    h = 2166136261
    for i in ids:
        h = ((h ^ i) * 16777619) & 0xFFFFFFFF
    return h


def has_newer_marks(s):
    """The reference's NFC knows the combining classes of Unicode 9 only: it leaves newer marks where they stand."""
    return unicodedata.normalize("NFC", s) != normalizers.NFC().normalize_str(s)


def write_hashes(path, tokenizer, texts):
    nfc = isinstance(tokenizer.normalizer, normalizers.NFC)
    exempt = [nfc and has_newer_marks(t) for t in texts]
    out = []
    for as_text in (False, True):
        tokenizer.encode_special_tokens = as_text
        encodings = tokenizer.encode_batch(texts, add_special_tokens=not as_text)
        out += [EXEMPT if skip else hash_of(e.ids) for skip, e in zip(exempt, encodings)]
    path.write_bytes(struct.pack(f"<{len(out)}I", *out))


def sentencepiece_golden(texts):
    """Merges by score, as a GGUF file has them: the vocabulary as GGUF fields, the ids from SentencePiece itself."""
    import io
    import sentencepiece
    fields_path = OUT / "sentencepiece.json"
    model_path = OUT / "sentencepiece.model"
    if not model_path.exists():
        model = io.BytesIO()
        lines = (line for t in corpus() for line in t.split("\n") if line and "\x00" not in line)
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=lines, model_writer=model, model_type="bpe", vocab_size=VOCAB_SIZE, byte_fallback=True,
            normalization_rule_name="identity", remove_extra_whitespaces=False, character_coverage=0.98,
            max_sentence_length=100000, num_threads=1, minloglevel=2)
        model_path.write_bytes(model.getvalue())
    sp = sentencepiece.SentencePieceProcessor(model_file=str(model_path))
    n = sp.vocab_size()
    kind = lambda i: 2 if sp.is_unknown(i) else 3 if sp.is_control(i) else 6 if sp.is_byte(i) else 1
    fields_path.write_text(json.dumps({
        "tokens": [sp.id_to_piece(i) for i in range(n)], "scores": [sp.get_score(i) for i in range(n)],
        "token_types": [kind(i) for i in range(n)]}, ensure_ascii=False, separators=(",", ":")) + "\n")
    out = [hash_of(ids) for ids in sp.encode(texts)]
    (OUT / "sentencepiece.hash").write_bytes(struct.pack(f"<{len(out)}I", *out))


def gguf_golden(model, path, texts):
    """A Hugging Face tokenizer from a GGUF's own vocabulary; the pipeline is SmolLM's."""
    import gguf
    fields = gguf.GGUFReader(model).fields
    assert fields["tokenizer.ggml.pre"].contents() == "smollm"
    tokens, merges = fields["tokenizer.ggml.tokens"].contents(), fields["tokenizer.ggml.merges"].contents()
    types = fields["tokenizer.ggml.token_type"].contents()
    t = Tokenizer(models.BPE(vocab={s: i for i, s in enumerate(tokens)}, merges=[tuple(m.split(" ")) for m in merges]))
    t.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True),
                                               pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)])
    t.add_tokens([AddedToken(s, special=k == 3, normalized=False) for s, k in zip(tokens, types) if k in (3, 4)])
    write_hashes(path, t, texts)


def main():
    texts = [text(i) for i in range(NUM_TEXTS)]
    if len(sys.argv) == 3:
        return gguf_golden(sys.argv[1], pathlib.Path(sys.argv[2]), texts)
    OUT.mkdir(exist_ok=True)
    write_fragments()
    for name, make in TOKENIZERS.items():
        path = OUT / f"{name}.json"
        if not path.exists():
            compact = json.loads(make().to_str())
            path.write_text(json.dumps(compact, ensure_ascii=False, separators=(",", ":")) + "\n")
        write_hashes(OUT / f"{name}.hash", Tokenizer.from_file(str(path)), texts)
    sentencepiece_golden(texts)


if __name__ == "__main__":
    main()
