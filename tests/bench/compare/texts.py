"""Texts for tokenizers: long and varied, so that a cache of words sees new ones as it would in the world."""
import json
import pathlib
import random
import subprocess

BENCH = pathlib.Path(__file__).resolve().parent.parent
ROOT = BENCH.parent.parent
TEXT_BYTES = 1 << 20


def scripts():
    """In the order of the rows."""
    return list(json.loads((BENCH / "host_bench_texts.json").read_text()))


def make():
    """Script -> text of about TEXT_BYTES. English and code are this repository's own documents (less: whoever
    measures repeats them) and sources."""
    paragraphs = json.loads((BENCH / "host_bench_texts.json").read_text())
    texts = {script: varied(paragraph, TEXT_BYTES) for script, paragraph in paragraphs.items()}
    texts["english"] = _files("*.md")
    texts["code"] = _files("*.cc")
    return texts


def varied(paragraph, size):
    """Text of the paragraph's words in random order, every second of them put together from halves of two; where words are
    not parted by spaces, of random stretches of it. The same each time."""
    generator = random.Random(1)
    words = paragraph.split()
    spaced = len(words) > 10
    parts, length = [], 0
    while length < size:
        if spaced:
            first, second = generator.choices(words, k=2)
            part = first if generator.random() < 0.5 else first[:(len(first) + 1) // 2] + second[len(second) // 2:]
            part += "\n" if generator.random() < 0.01 else " "
        else:
            begin = generator.randrange(len(paragraph))
            part = paragraph[begin:begin + generator.randint(2, 12)]
        parts.append(part)
        length += len(part.encode())
    return "".join(parts)


def _files(pattern):
    """Of the files that git keeps; of an unpacked archive, of all."""
    listed = subprocess.run(["git", "ls-files", "-z", "--", pattern], cwd=ROOT, capture_output=True, check=False)
    names = listed.stdout.decode().split("\0")[:-1] if listed.returncode == 0 else [
        str(path.relative_to(ROOT)) for path in ROOT.rglob(pattern) if "build" not in path.relative_to(ROOT).parts]
    text = "".join((ROOT / name).read_text(errors="replace") for name in sorted(names))
    return text.encode()[:TEXT_BYTES].decode(errors="ignore")
