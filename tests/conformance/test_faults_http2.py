"""Frames that no gRPC client sends, by socket: the connection ends, the node and its other connections do not."""
import socket
import struct

import pytest

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, CONTINUATION = 0, 1, 3, 4, 6, 7, 9
END_STREAM, END_HEADERS = 1, 4
ENHANCE_YOUR_CALM = 11


def frame(kind, flags=0, stream=0, payload=b"", length=None):
    return struct.pack(">I", len(payload) if length is None else length)[1:] + bytes([kind, flags]) + \
        struct.pack(">I", stream) + payload


def literal(name, value):
    """A header, neither indexed nor compressed (RFC 7541, section 6.2.2)."""
    return b"\x00" + bytes([len(name)]) + name + bytes([len(value)]) + value


CALL = b"".join(literal(name, value) for name, value in (
    (b":method", b"POST"), (b":scheme", b"http"), (b":path", b"/trireme.v1.Inference/Generate"), (b":authority", b"x"),
    (b"content-type", b"application/grpc"), (b"te", b"trailers")))
START = PREFACE + frame(SETTINGS)


def exchange(rule_p, data):
    """What comes until the server closes; None when it does not. It may close before all is sent."""
    with socket.create_connection(("127.0.0.1", rule_p.server.grpc_port), timeout=10) as connection:
        answer = b""
        try:
            connection.sendall(data)
            connection.shutdown(socket.SHUT_WR)
            while piece := connection.recv(65536):
                answer += piece
        except (BrokenPipeError, ConnectionResetError):
            pass
        return answer


def frames(data):
    while len(data) >= 9:
        length, kind = int.from_bytes(data[:3]), data[3]
        yield kind, data[9:9 + length]
        data = data[9 + length:]


def goaway_codes(data):
    return [int.from_bytes(payload[4:8]) for kind, payload in frames(data) if kind == GOAWAY]


@pytest.mark.parametrize("data", [
    b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\xaa" * 200,
    b"\0" * 4096,
    PREFACE[:-1] + b"x",
    PREFACE,
    START + frame(DATA, 0, 1, b"x" * 100),
    START + frame(DATA, 0, 0, b"x"),
    START + frame(SETTINGS, 0, 0, b"12345"),
    START + frame(SETTINGS, 0, 0, b"\0\4" + b"\xff" * 4),                  # a window beyond 31 bits
    START + frame(PING, 0, 0, b"short"),
    START + frame(HEADERS, END_HEADERS, 2, CALL),                           # an even stream
    START + frame(HEADERS, END_HEADERS, 1, b"\xff" * 100),                  # an index beyond the table
    START + frame(HEADERS, END_HEADERS, 1, literal(b"X", b"y")),            # upper case, no pseudo-headers
    START + frame(HEADERS, 0, 1, CALL) + frame(PING, 0, 0, b"12345678"),    # something between header parts
    START + frame(CONTINUATION, END_HEADERS, 1, CALL),
    START + frame(0xEE, 0xFF, 7, b"x" * 1000),
    START + frame(HEADERS, END_HEADERS, 1, CALL) + frame(DATA, END_STREAM, 1, b"\0" + b"\xff" * 4),
    START + frame(HEADERS, END_HEADERS, 1, CALL) + frame(DATA, END_STREAM, 1, b"\7\0\0\0\0"),
    START + frame(HEADERS, END_HEADERS, 1, CALL) + frame(DATA, END_STREAM, 1, b"\0\0\0\0\5abc"),
    START + frame(DATA, 0, 1, b"", length=0xffffff),
], ids=range(20))
def test_broken_frames_end_their_connection_only(rule_p, data):
    with rule_p.holds(http=0, grpc=None):
        exchange(rule_p, data)


def test_a_ping_flood_is_cut_off(rule_p):
    with rule_p.holds(http=0, grpc=0):
        answer = exchange(rule_p, START + frame(PING, 0, 0, b"12345678") * 5000)
        assert ENHANCE_YOUR_CALM in goaway_codes(answer)


@pytest.mark.parametrize("flood", [
    frame(SETTINGS) * 20000,
    b"".join(frame(HEADERS, END_HEADERS, 2 * i + 1, CALL) + frame(RST_STREAM, 0, 2 * i + 1, b"\0\0\0\x08")
             for i in range(5000)),  # "rapid reset", CVE-2023-44487
    frame(HEADERS, 0, 1, CALL) + frame(CONTINUATION, 0, 1, literal(b"x-a", b"y" * 100) * 100) * 1000,  # CVE-2024-27316
    b"".join(frame(HEADERS, END_HEADERS, 2 * i + 1, CALL) for i in range(2000)),  # calls without a message
], ids=["settings", "rapid reset", "continuation", "streams"])
def test_floods_leave_nothing_behind(rule_p, flood):
    with rule_p.holds(http=0, grpc=None):
        for _ in range(4):
            exchange(rule_p, START + flood)
    assert rss(rule_p) < 600 << 20, "gRPC's own buffers have a quota of 512 MiB"


def rss(rule_p):
    with open(f"/proc/{rule_p.server.process.pid}/statm") as statm:
        return int(statm.read().split()[1]) * 4096
