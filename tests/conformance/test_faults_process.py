"""What happens to the process itself: no descriptors, no room for logs, a clock that jumps. Signals with other
flags: test_lifecycle.py."""
import email.utils
import http.client
import json
import os
import resource
import socket
import subprocess
import time

import grpc
import pytest

from conftest import Server
from doors import post
from rule_p import CANARY, RuleP

HEALTH = "/grpc.health.v1.Health/Check"


def until(condition):
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.parametrize("door", ["http", "grpc"])
def test_want_of_descriptors_pauses_accepting(guard_server, door):
    rule_p = guard_server()
    pid = rule_p.server.process.pid
    limit = rule_p.descriptors() + 20
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (limit, limit))
    port = getattr(rule_p.server, f"{door}_port")
    with rule_p.holds(http=1, grpc=0):
        flood = [socket.create_connection(("127.0.0.1", port), timeout=30) for _ in range(100)]
        until(lambda: rule_p.descriptors() == limit and "accepting pauses" in rule_p.server.logs())
        rule_p.scrape()  # who is connected is served
        for connection in flood:
            connection.close()
        assert rule_p.server.get("/health")[0] == 200
        with grpc.insecure_channel(f"127.0.0.1:{rule_p.server.grpc_port}",
                                   options=[("grpc.use_local_subchannel_pool", 1)]) as channel:
            assert channel.unary_unary(HEALTH)(b"", timeout=30, wait_for_ready=True) == b"\x08\x01"
    assert rule_p.server.logs().count("accepting pauses") < 20, "the log is not flooded"


def free_ports():
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
    ports = [s.getsockname()[1] for s in sockets]
    for s in sockets:
        s.close()
    return ports


@pytest.mark.parametrize("log_format", ["text", "json"])
@pytest.mark.parametrize("fault", ["disk full", "reader gone"])
def test_logs_that_cannot_be_written_stop_nothing(binary, tiny, stubs, log_format, fault):
    http_port, grpc_port = free_ports()
    reader, writer = os.pipe()
    full = os.open("/dev/full", os.O_WRONLY)
    out = full if fault == "disk full" else writer
    process = subprocess.Popen(
        [binary, "serve", tiny, "--served-model-name", "demo", "--http-port", str(http_port), "--grpc-port",
         str(grpc_port), "--threads", "1", "--log-level", "debug", "--log-format", log_format], stdout=out, stderr=out)
    for fd in (reader, writer, full):
        os.close(fd)
    server = Server.__new__(Server)
    server.process, server.http_port, server.grpc_port, server._stderr_lines = process, http_port, grpc_port, []
    try:
        def ready():
            assert process.poll() is None, process.returncode
            try:
                return server.get("/ready")[0] == 200
            except OSError:
                return False  # nobody listens yet

        until(ready)
        rule_p = RuleP(server, stubs)
        with rule_p.holds(http=100, grpc=0):
            for _ in range(50):
                assert post(server, "/v1/completions", {"model": "demo", "prompt": "x", "max_tokens": 2}).status == 200
                assert post(server, "/v1/completions", {"model": "demo", "prompt": "x", "n": -1}).status == 400
        rule_p.close()
        process.terminate()
        assert process.wait(30) == 0
    finally:
        process.kill()
        process.wait()


def test_a_signal_to_end_disturbs_nobody(guard_server):
    """Rule P for a process that is to end: whoever is served is served to the end, and it exits as stated."""
    rule_p = guard_server()
    witnesses = rule_p._begin_http(), rule_p._begin_grpc()
    rule_p.server.process.terminate()
    assert rule_p._rest_over_http(witnesses[0]) == rule_p.solo
    assert rule_p._rest_over_grpc(*witnesses[1]) == rule_p.solo
    assert rule_p.server.wait(60) == 0
    rule_p.check_logs()


def test_a_drain_deadline_tells_every_client(guard_server):
    rule_p = guard_server("--drain-timeout", "1")
    fields = {"prompt": CANARY, "max_tokens": 1900, "ignore_eos": True, "n": 64}
    over_grpc = rule_p.stub.Generate(rule_p.pb.GenerateRequest(**fields), timeout=60)
    next(over_grpc)
    over_http = http.client.HTTPConnection("127.0.0.1", rule_p.server.http_port, timeout=60)
    over_http.request("POST", "/v1/completions", json.dumps({"model": "demo", "stream": True, **fields}),
                      {"content-type": "application/json"})
    answer = over_http.getresponse()
    assert answer.readline()
    rule_p.server.process.terminate()
    rest = answer.read()
    assert b'data: {"error":' in rest and b"[DONE]" not in rest and CANARY.encode() not in rest
    with pytest.raises(grpc.RpcError) as raised:
        list(over_grpc)
    assert raised.value.code() == grpc.StatusCode.UNAVAILABLE and CANARY not in raised.value.details()
    assert rule_p.server.wait(60) == 0
    rule_p.check_logs()


CLOCK = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <time.h>
// Wall clocks are off by the seconds that the file $WALL_CLOCK_OFFSET holds at the moment.
static int64_t offset(void) {
  static volatile int64_t* shared;
  if (!shared) shared = mmap(0, 8, PROT_READ, MAP_SHARED, open(getenv("WALL_CLOCK_OFFSET"), O_RDONLY), 0);
  return *shared;
}
int clock_gettime(clockid_t clock, struct timespec* t) {
  static int (*real)(clockid_t, struct timespec*);
  if (!real) real = dlsym(RTLD_NEXT, "clock_gettime");
  int result = real(clock, t);
  if (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE) t->tv_sec += offset();
  return result;
}
time_t time(time_t* out) {
  struct timespec t;
  clock_gettime(CLOCK_REALTIME, &t);
  if (out) *out = t.tv_sec;
  return t.tv_sec;
}
int gettimeofday(struct timeval* out, void* zone) {
  struct timespec t;
  clock_gettime(CLOCK_REALTIME, &t);
  out->tv_sec = t.tv_sec;
  out->tv_usec = t.tv_nsec / 1000;
  return 0;
}
"""


def test_a_wall_clock_that_jumps_changes_nothing(guard_server, tmp_path):
    source, library, offset = tmp_path / "clock.c", tmp_path / "clock.so", tmp_path / "offset"
    source.write_text(CLOCK)
    subprocess.run(["cc", "-shared", "-fPIC", "-o", library, source, "-ldl"], check=True)

    def jump(seconds):
        with open(offset, "r+b" if offset.exists() else "wb") as file:
            file.write(seconds.to_bytes(8, "little", signed=True))

    jump(0)
    rule_p = guard_server(env={"LD_PRELOAD": str(library), "WALL_CLOCK_OFFSET": str(offset)})
    fields = {"model": "demo", "prompt": "x", "max_tokens": 2}
    pb, before = rule_p.pb, time.time()
    for seconds in (10**6, -10**6, 10**9, -10**9, 0):
        with rule_p.holds(http=2, grpc=2):  # jumps while the witnesses run
            held = rule_p.stub.Generate(pb.GenerateRequest(prompt="x", max_tokens=1500, ignore_eos=True), timeout=60)
            next(held)
            jump(seconds)
            answer = post(rule_p.server, "/v1/completions", fields)
            told = email.utils.parsedate_to_datetime(answer.headers["date"]).timestamp()
            assert answer.status == 200 and abs(told - before - seconds) < 600, "the clock did jump"
            assert post(rule_p.server, "/v1/completions", fields).status == 200
            assert sum(len(a.token_ids) for a in held) > 1000, "its deadline is a span of time"
            rule_p.stub.Tokenize(pb.TokenizeRequest(text="x"), timeout=30)
