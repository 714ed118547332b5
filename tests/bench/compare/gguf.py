"""What the head of a GGUF file says of a model: its type, its multiplications, its KV cache.

The format: github.com/ggml-org/ggml, docs/gguf.md.
"""
import dataclasses
import struct

FILE_TYPES = {0: "F32", 1: "F16", 2: "Q4_0", 3: "Q4_1", 7: "Q8_0", 32: "BF16"}  # of general.file_type
SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
STRING, ARRAY = 8, 9


@dataclasses.dataclass
class Model:
    file_type: str
    layer_weights: int  # elements of the layers' matrices: multiply-adds of one token without the head
    head_weights: int  # of the head's: multiply-adds of one token's logits
    kv_bytes_per_token: int  # with 16-bit K and V


@dataclasses.dataclass
class Head:
    metadata: dict  # key -> value
    encoded: dict  # key -> type and value as the file has them
    shapes: dict  # of the tensors: name -> list, the fastest dimension first


def read(path):
    """What of a model matters here. Raises as read_head does."""
    head = read_head(path)
    return _model(head.metadata, head.shapes)


def read_head(path):
    """Raises ValueError where the file is no GGUF of a version that is known."""
    with open(path, "rb") as file:
        def scalar(kind):
            layout = struct.Struct("<" + SCALARS[kind])
            return layout.unpack(file.read(layout.size))[0]

        def text():
            return file.read(scalar(10)).decode("utf-8", "replace")

        def value(kind):
            if kind == STRING:
                return text()
            if kind == ARRAY:
                element, count = scalar(4), scalar(10)
                return [value(element) for _ in range(count)]
            return scalar(kind)

        try:
            if file.read(4) != b"GGUF" or scalar(4) not in (2, 3):
                raise ValueError(f"{path} is not a GGUF file of version 2 or 3")
            tensors, pairs = scalar(10), scalar(10)
            metadata, encoded, shapes = {}, {}, {}
            for _ in range(pairs):
                key = text()
                begin = file.tell()
                metadata[key] = value(scalar(4))
                end = file.tell()
                file.seek(begin)
                encoded[key] = file.read(end - begin)
            for _ in range(tensors):
                name = text()
                shapes[name] = [scalar(10) for _ in range(scalar(4))]
                scalar(4), scalar(10)  # type and offset
        except (struct.error, KeyError, MemoryError) as error:
            raise ValueError(f"{path} is a damaged GGUF file") from error
    return Head(metadata, encoded, shapes)


def _model(metadata, shapes):
    def size(shape):
        return shape[0] * shape[1]

    def of(key, default=0):
        return metadata.get(f"{metadata.get('general.architecture')}.{key}", default)

    heads = max(of("attention.head_count"), 1)
    head_size = of("attention.key_length", of("embedding_length") // heads)
    return Model(
        file_type=FILE_TYPES.get(metadata.get("general.file_type"), "as given"),
        layer_weights=sum(size(s) for name, s in shapes.items() if name.startswith("blk.") and len(s) == 2),
        head_weights=size(shapes.get("output.weight", shapes.get("token_embd.weight", [0, 0]))),
        kv_bytes_per_token=of("block_count") * 2 * 2 * head_size * of("attention.head_count_kv", heads))
