"""Bytes that no client of good will sends: each gets a precise answer or a clean close, and rule P holds."""
import json
import socket
import time

import pytest

from doors import http_verdict, post_bytes

MAX_BODY = 64 << 10
HOST = b"Host: x\r\n"
HEALTH = b"GET /health HTTP/1.1\r\n" + HOST


@pytest.fixture(scope="module")
def guard(guard_server):
    return guard_server("--max-body", str(MAX_BODY))


@pytest.fixture(scope="module")
def target(guard):
    return guard.server


def connect(server):
    return socket.create_connection(("127.0.0.1", server.http_port), timeout=30)


def read_all(connection):
    """What comes until the server closes."""
    data = b""
    while piece := connection.recv(65536):
        data += piece
    return data


def split(data):
    """The answers in `data`, as (status, body). Errors have their shape."""
    answers = []
    while data:
        head, _, data = data.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 "), head
        headers = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:])
        length = int(headers[b"content-length"])
        status, body, data = int(head.split()[1]), data[:length], data[length:]
        assert len(body) == length, "a torn answer"
        if status >= 400:
            http_verdict(status, {name.decode(): value.decode() for name, value in headers.items()}, body)
        answers.append((status, body))
    return answers


def send(server, data):
    """Every answer to `data`, which must make the server close; it may do so before all is sent."""
    with connect(server) as connection:
        try:
            connection.sendall(data)
        except (BrokenPipeError, ConnectionResetError):
            pass
        return split(read_all(connection))


def refusal(server, data):
    [(status, _)] = send(server, data)
    return status


def post(body, headers=b"", path=b"/tokenize", close=True):
    return (b"POST " + path + b" HTTP/1.1\r\n" + HOST + (b"Connection: close\r\n" if close else b"") + headers +
            b"Content-Length: %d\r\n\r\n" % len(body) + body)


def chunked(body, headers=b""):
    return b"POST /tokenize HTTP/1.1\r\n" + HOST + headers + b"Transfer-Encoding: chunked\r\n\r\n" + body


HEADS = {
    "huge header": (431, HEALTH + b"X: " + b"a" * (80 << 10) + b"\r\n\r\n"),
    "many headers": (431, HEALTH + b"X: a\r\n" * 20000 + b"\r\n"),
    "endless target": (431, b"GET /" + b"a" * (80 << 10)),
    "endless method": (431, b"A" * (80 << 10)),
    "space before colon": (400, b"GET /health HTTP/1.1\r\nHost : x\r\n\r\n"),
    "header without colon": (400, HEALTH + b"nonsense\r\n\r\n"),
    "empty header name": (400, HEALTH + b": x\r\n\r\n"),
    "NUL in a header": (400, HEALTH + b"X: a\0b\r\n\r\n"),
    "NUL in the target": (400, b"GET /hea\0lth HTTP/1.1\r\n" + HOST + b"\r\n"),
    "bare CR": (400, HEALTH + b"X: a\rY: b\r\n\r\n"),
    "no Host": (400, b"GET /health HTTP/1.1\r\n\r\n"),
    "two Hosts": (400, HEALTH + HOST + b"\r\n"),
    "HTTP/0.9": (400, b"GET /health\r\n\r\n"),
    "HTTP/2 preface": (505, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
    "HTTP/3.0": (505, b"GET /health HTTP/3.0\r\n" + HOST + b"\r\n"),
    "TLS to a plain port": (400, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\xaa" * 200 + b"\r\n\r\n"),
    "zeros": (400, b"\0" * 500),
    "bad percent": (400, b"GET /%zz HTTP/1.1\r\n" + HOST + b"\r\n"),
    "length with a sign": (400, HEALTH + b"Content-Length: +5\r\n\r\nhello"),
    "negative length": (400, HEALTH + b"Content-Length: -5\r\n\r\nhello"),
    "list of lengths": (400, HEALTH + b"Content-Length: 5, 5\r\n\r\nhello"),
    "two lengths": (400, HEALTH + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello"),
    "length beyond 64 bits": (400, HEALTH + b"Content-Length: 18446744073709551616\r\n\r\n"),
    "length and chunked": (400, chunked(b"0\r\n\r\n", b"Content-Length: 5\r\n")),
    "chunked twice": (400, chunked(b"0\r\n\r\n", b"Transfer-Encoding: chunked\r\n")),
    "gzip, chunked": (400, HEALTH + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n"),
    "chunked, gzip": (400, HEALTH + b"Transfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n"),
    "xchunked": (400, HEALTH + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n"),
    "chunked in HTTP/1.0": (400, b"POST /tokenize HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
}


@pytest.mark.parametrize("name", HEADS)
def test_broken_heads_are_refused(guard, target, name):
    status, data = HEADS[name]
    with guard.holds(http=1, grpc=0):
        assert refusal(target, data) == status


@pytest.mark.parametrize("data", [b"GET /health HTTP/1.1\nHost: x\n\n", b"GET /health HTPP/1.1\r\n" + HOST + b"\r\n",
                                  b"GET /health HTTP/x\r\n" + HOST + b"\r\n"], ids=["bare LF", "HTPP", "HTTP/x"])
def test_malformed_versions_are_refused(guard, target, data):
    with guard.holds(http=1, grpc=0):
        assert refusal(target, data) == 400


def test_bare_line_feeds_between_headers_are_refused(guard, target):
    with guard.holds(http=1, grpc=0):
        assert refusal(target, b"GET /health HTTP/1.1\r\nHost: x\nX: y\n\n") == 400


@pytest.mark.parametrize("request_line, status", [
    (b"TRACE /health", 405), (b"DELETE /v1/completions", 405), (b"get /health", 405), (b"POST /health", 405),
    (b"OPTIONS *", 404), (b"CONNECT example.com:443", 404), (b"GET health", 404), (b"GET //health", 404),
    (b"GET ftp://x/health", 404), (b"GET /health%00", 404), (b"GET /health/../metrics", 404),
    (b"GET /v1/models/..", 404), (b"GET /v1/models/%2e%2e%2fmetrics", 404),
    (b"GET /page/../metrics", 404), (b"GET /page/%2e%2e%2f%2e%2e%2fetc%2fpasswd", 404), (b"POST /", 405),
    (b"GET /page/config.json/x", 404), (b"DELETE /v1/requests/", 404), (b"DELETE /v1/requests/%00", 404),
    (b"DELETE /v1/requests/" + b"x" * 4000, 404), (b"PUT /metrics", 405),
    (b"GET http://evil.example/health", 200), (b"HEAD /health", 200), (b"GET /health?" + b"a=b&" * 1000, 200),
])
def test_strange_request_lines(guard, target, request_line, status):
    with guard.holds(http=1, grpc=0), connect(target) as connection:
        connection.sendall(request_line + b" HTTP/1.1\r\nConnection: close\r\n" + HOST + b"\r\n")
        assert read_all(connection).startswith(b"HTTP/1.1 %d " % status)


BODY = b'{"prompt": "Hi"}'
CHUNKED = {
    "size is no number": b"zz\r\nhello\r\n0\r\n\r\n",
    "negative size": b"-5\r\nhello\r\n0\r\n\r\n",
    "size with 0x": b"0x5\r\nhello\r\n0\r\n\r\n",
    "size beyond 64 bits": b"fffffffffffffffff\r\nhello\r\n0\r\n\r\n",
    "no size": b"\r\nhello\r\n0\r\n\r\n",
    "data longer than its size": b"2\r\nhello\r\n0\r\n\r\n",
    "endless extension": b"5;" + b"a" * (80 << 10),
    "endless trailer": b"0\r\nX: " + b"a" * (80 << 10),
}


@pytest.mark.parametrize("name", CHUNKED)
def test_broken_chunks_are_refused(guard, target, name):
    with guard.holds(http=1, grpc=0):
        assert refusal(target, chunked(CHUNKED[name])) == 400


def test_bodies_beyond_the_limit_are_refused(guard, target):
    announced = b"POST /tokenize HTTP/1.1\r\n" + HOST + b"Content-Length: %d\r\n\r\n" % (MAX_BODY + 1)
    with guard.holds(http=5, grpc=0):
        assert refusal(target, announced) == 413  # before a byte of it
        assert refusal(target, announced + b"a" * (MAX_BODY + 1)) == 413
        assert refusal(target, chunked((b"1000\r\n" + b"a" * 0x1000 + b"\r\n") * (MAX_BODY // 0x1000 + 1))) == 413
        assert refusal(target, chunked(b"ffffffff\r\n" + b"a" * (1 << 20))) == 413
        padded = BODY[:-1] + b" " * (MAX_BODY - len(BODY)) + b"}"
        assert send(target, post(padded))[0][0] == 200


JSON = {
    "nothing": b"",
    "invalid UTF-8": b'{"prompt": "\xff\xfe"}',
    "overlong UTF-8": b'{"prompt": "\xc0\xaf"}',
    "UTF-8 surrogate": b'{"prompt": "\xed\xa0\x80"}',
    "escaped lone surrogate": b'{"prompt": "\\ud800"}',
    "byte order mark": b"\xef\xbb\xbf" + BODY,
    "UTF-16": BODY.decode().encode("utf-16"),
    "NUL before": b"\0" + BODY,
    "NUL after": BODY + b"\0",
    "NUL inside": b'{"prompt": "a\0b"}',
    "deep arrays": b'{"prompt": ' + b"[" * 30000 + b"]" * 30000 + b"}",
    "deep objects": b'{"a":' * 10000 + b"1" + b"}" * 10000,
    "unclosed depth": b"[" * 60000,
    "same key twice": b'{"prompt": "a", "prompt": "b"}',
    "same key escaped": b'{"prompt": "a", "\\u0070rompt": "b"}',
    "trailing garbage": BODY + b"x",
    "two objects": BODY + BODY,
    "trailing comma": b'{"prompt": "Hi",}',
    "comment": b'{"prompt": "Hi" /* */}',
    "single quotes": b"{'prompt': 'Hi'}",
    "NaN": b'{"prompt": NaN}',
    "array at the root": b"[" + BODY + b"]",
    "string at the root": b'"Hi"',
    "truncated": BODY[:-3],
    "many keys": b"{" + b",".join(b'"k%d":1' % i for i in range(6000)) + b"}",
}


POSTS = ("/v1/chat/completions", "/v1/completions", "/tokenize", "/detokenize")


@pytest.mark.parametrize("name", JSON)
def test_broken_json_is_refused_by_every_route(guard, target, name):
    with guard.holds(http=len(POSTS), grpc=0):
        for path in POSTS:
            assert post_bytes(target, path, JSON[name]).status == 400


@pytest.mark.parametrize("body", [
    b"{" + b",".join(b'"k%d":1' % i for i in range(10**6)) + b"}",
    b'{"prompt": [' + b"1," * (8 << 20) + b"1]}",
    b"[" * (8 << 20),
    b'{"prompt": "' + b"\\ud83d\\ude00" * (1 << 20) + b'"}',
    b'{"prompt": ' + b"9" * (8 << 20) + b"}",
], ids=["a million keys", "eight million values", "depth", "escapes", "digits"])
def test_large_json_costs_no_more_than_its_length(rule_p, body):
    with rule_p.holds(http=len(POSTS), grpc=0):
        for path in POSTS:
            assert post_bytes(rule_p.server, path, body).status == 400


@pytest.mark.parametrize("headers", [b"Content-Type: text/plain\r\n", b"Content-Encoding: gzip\r\n",
                                     b"Content-Type: application/x-www-form-urlencoded\r\n"])
def test_other_encodings_are_refused(guard, target, headers):
    with guard.holds(http=len(POSTS), grpc=0):
        for path in POSTS:
            assert refusal(target, post(BODY, headers, path.encode())) == 415


def test_an_escaped_nul_is_a_character(guard, target):
    with guard.holds(http=1, grpc=0):
        [(status, body)] = send(target, post(b'{"prompt": "a\\u0000b"}'))
        assert status == 200 and json.loads(body)["count"] == 3


def test_pipelined_requests_are_answered_in_order(guard, target):
    with guard.holds(http=5, grpc=0):
        answers = send(target, HEALTH + b"\r\n" + post(BODY, close=False) + b"GET /nothing HTTP/1.1\r\n" + HOST +
                       b"\r\n" + chunked(b"%x\r\n" % len(BODY) + BODY + b"\r\n0\r\n\r\n") + post(b"{}"))
    assert [status for status, _ in answers] == [200, 200, 404, 200, 400]
    assert answers[1][1] == answers[3][1] and b"tokens" in answers[1][1]


def test_nothing_hidden_in_a_refused_body_is_answered(guard, target):
    """Where the next request begins is unknown then."""
    hidden = HEALTH + b"\r\n"
    with guard.holds(http=3, grpc=0):
        for data in (post(hidden, b"Content-Type: text/plain\r\n", close=False), chunked(b"zz\r\n" + hidden),
                     post(b"", close=False, headers=b"Content-Length: 5\r\n") + hidden):
            refusal(target, data)


def test_garbage_after_a_request_is_refused_alone(guard, target):
    with guard.holds(http=2, grpc=0):
        assert [status for status, _ in send(target, HEALTH + b"\r\n" + b"\0\1\2\3\r\n\r\n")] == [200, 400]


def test_slow_heads_time_out_and_hold_nobody_up(guard, target):
    with guard.holds(http=None, grpc=0), connect(target) as silent, connect(target) as slow:
        slow.sendall(HEALTH + b"X: ")
        deadline = time.monotonic() + 30
        slow.settimeout(0.5)
        answer = b""
        while not answer and time.monotonic() < deadline:
            assert target.get("/health")[0] == 200
            try:
                answer = slow.recv(65536)
            except TimeoutError:
                slow.sendall(b"x")
        assert answer.startswith(b"HTTP/1.1 408 ")
        assert read_all(silent) == b""


@pytest.mark.parametrize("data", [b"G", HEALTH, post(BODY)[:-3], chunked(b"5\r\nhel")],
                         ids=["method", "head", "body", "chunk"])
@pytest.mark.parametrize("how", ["half-close", "reset"])
def test_half_a_request_gets_no_answer(guard, target, data, how):
    arrived = b"\r\n\r\n" in data  # its head: it counts, as one whose client went away
    with guard.holds(http=int(arrived), grpc=0), connect(target) as connection:
        connection.sendall(data)
        if how == "reset":
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        else:
            connection.shutdown(socket.SHUT_WR)
            assert read_all(connection) == b""
