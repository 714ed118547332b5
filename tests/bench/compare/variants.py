"""variants.py GGUF [PEER]: the files to measure, a line of TYPE=FILE each.

The file itself, and the same model in the other types, made of it by llama-quantize of PEER (the folder of its programs)
once, and kept beside the models. Their quality is not what is measured: what is quantised twice has lost twice.
"""
import hashlib
import os
import pathlib
import sys

import gguf
from processes import Failed, output_of

TYPES = ("Q4_0", "Q8_0", "BF16")


def cache():
    chosen = os.environ.get("TRIREME_CACHE")
    base = os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache"
    return pathlib.Path(chosen) if chosen else pathlib.Path(base) / "trireme"


def digest(path):
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:12]


def variants(path, peer):
    """Type -> file. A file of the cache that is whole is taken as it is: the name has the digest of what it was made of."""
    found = {gguf.read(path).file_type: path}
    folder = cache() / "models" / "variants"
    folder.mkdir(parents=True, exist_ok=True)
    made_of = f"{path.stem}-{digest(path)}"
    for file_type in TYPES:
        target = folder / f"{made_of}.{file_type}.gguf"
        if file_type in found:
            continue
        if not target.exists() and peer:
            print(f"Making {file_type} of {path.name} ...", file=sys.stderr, flush=True)
            part = folder / f"{target.name}.{os.getpid()}.part"
            try:
                output_of([pathlib.Path(peer) / "llama-quantize", "--allow-requantize", path, part, file_type])
                part.rename(target)  # whole, or not there
            finally:
                part.unlink(missing_ok=True)
        if target.exists():
            found[file_type] = target
    return found


if __name__ == "__main__":
    try:
        for file_type, file in variants(pathlib.Path(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else "").items():
            print(f"{file_type}={file}")
    except (Failed, ValueError, OSError) as error:
        sys.exit(f"The models cannot be prepared: {error}")
