"""Rule P, checked around every bad input and every fault.

The process lives; KV blocks, requests, descriptors and threads are back to baseline; a concurrent request's output is
byte-identical to its solo run; each request is counted once, and each that the engine accepted ends once; the logs are
whole JSON lines without prompt text, path or key.
"""
import collections
import contextlib
import http.client
import json
import os
import re
import time

import grpc

CANARY = "Canary-4711"  # stands in every hostile prompt, and nowhere in answers that refuse it or in logs
# gRPC starts and ends threads of its own as it likes, in proportion to the cores.
MAX_FOREIGN_THREADS = 8 + 4 * (os.cpu_count() or 1)
WITNESS = {"model": "demo", "prompt": "Once upon a time", "max_tokens": 160, "ignore_eos": True, "seed": 7,
           "temperature": 0.8, "top_p": 0.95}
GAUGES = ("trireme_requests_running", "trireme_requests_waiting", "trireme_waiting_prompt_tokens",
          "trireme_kv_blocks_held")


class Scrape:
    """One reading of /metrics: name -> {labels: value}."""

    def __init__(self, text):
        self.families = collections.defaultdict(dict)
        for name, labels, value in re.findall(r"^([a-z_:]+)(?:\{(.*)\})? (\S+)$", text, re.M):
            self.families[name][labels or ""] = float(value)

    def sum(self, name, *parts):
        """Over the label sets that hold every one of `parts`."""
        return sum(v for labels, v in self.families[name].items() if all(part in labels for part in parts))

    def answered(self):
        """Requests by door, without the checker's own."""
        own = [('method="GET"', 'code="200"', f'route="{route}"') for route in ("/metrics", "/v1/requests")]
        http_total = self.sum("trireme_http_requests_total") - sum(
            self.sum("trireme_http_requests_total", *labels) for labels in own)
        return collections.Counter(http=http_total, grpc=self.sum("trireme_grpc_requests_total"))


class RuleP:
    """The checker of one server."""

    def __init__(self, server, stubs, key=None, forbidden=()):
        """`forbidden`: what no log line may hold, besides the canary and the key."""
        self.server, self.key = server, key
        self.patience_s = 30  # for what must come back; slow builds included
        self.pb = stubs[0]
        self.forbidden = [CANARY, *forbidden, *([key] if key else [])]
        self.http_headers = {"authorization": f"Bearer {key}"} if key else {}
        self.metadata = (("authorization", f"Bearer {key}"),) if key else ()
        self.connection = http.client.HTTPConnection("127.0.0.1", server.http_port, timeout=60)
        self.channel = grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}")
        self.stub = stubs[1].InferenceStub(self.channel)
        before = self.scrape().answered()
        self.solo = self._rest_over_http(self._begin_http())
        assert len(self.solo) > 100
        assert self._rest_over_grpc(*self._begin_grpc()) == self.solo, "both doors agree"
        self.logs_read = 0
        self.settle(lambda: self.scrape().answered() == before + collections.Counter(http=1, grpc=1))

    def close(self):
        self.connection.close()
        self.channel.close()

    # ---- What the node says of itself.

    def get(self, path):
        """Over one connection, which is part of the baseline."""
        try:
            self.connection.request("GET", path, headers=self.http_headers)
            answer = self.connection.getresponse()
        except (http.client.RemoteDisconnected, ConnectionError):  # it was idle for longer than the server keeps it
            self.connection.close()
            self.connection.request("GET", path, headers=self.http_headers)
            answer = self.connection.getresponse()
        body = answer.read()
        assert answer.status == 200, body
        return body.decode()

    def scrape(self):
        return Scrape(self.get("/metrics"))

    def descriptors(self):
        return len(os.listdir(f"/proc/{self.server.process.pid}/fd"))

    def threads(self):
        """Our own, and gRPC's (which name themselves)."""
        names = collections.Counter()
        tasks = f"/proc/{self.server.process.pid}/task"
        for task in os.listdir(tasks):
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                with open(f"{tasks}/{task}/comm") as comm:
                    names["ours" if comm.read().strip() == "trireme" else "foreign"] += 1
        return names

    # ---- The witnesses: one request through each door, alone and beside every case.

    def _begin_http(self):
        connection = http.client.HTTPConnection("127.0.0.1", self.server.http_port, timeout=120)
        connection.request("POST", "/v1/completions", json.dumps({**WITNESS, "stream": True}),
                           {"content-type": "application/json", **self.http_headers})
        answer = connection.getresponse()
        assert answer.status == 200, answer.read()
        first = answer.readline()
        return connection, answer, first

    @staticmethod
    def _rest_over_http(begun):
        connection, answer, first = begun
        with contextlib.closing(connection):
            events = (first + answer.read()).decode().split("\n\n")
        assert events[-2:] == ["data: [DONE]", ""], "the witness was cut short"
        return "".join(json.loads(e[6:])["choices"][0]["text"] for e in events[:-2] if not e.startswith(":"))

    def _begin_grpc(self):
        sampling = self.pb.SamplingParams(**{name: WITNESS[name] for name in ("seed", "temperature", "top_p")})
        call = self.stub.Generate(self.pb.GenerateRequest(
            prompt=WITNESS["prompt"], max_tokens=WITNESS["max_tokens"], ignore_eos=True, sampling=sampling),
            metadata=self.metadata, timeout=120)
        return call, next(call).text

    @staticmethod
    def _rest_over_grpc(call, first):
        return first + "".join(answer.text for answer in call)

    # ---- The rule.

    @contextlib.contextmanager
    def holds(self, http=None, grpc=None, witnessed=True):
        """Around the bad input. `http`, `grpc`: how many requests of each door it makes that must be counted; None
        where a client's haste decides (a request that never arrived whole is none). Not `witnessed`: what is inside
        takes long and has good requests of its own."""
        before, descriptors, threads = self.scrape(), self.descriptors(), self.threads()
        witnesses = (self._begin_http(), self._begin_grpc()) if witnessed else None
        yield
        assert self.server.process.poll() is None, f"the process died\n{self.server.logs()[-4000:]}"
        if witnessed:
            assert self._rest_over_http(witnesses[0]) == self.solo, "the HTTP witness was disturbed"
            assert self._rest_over_grpc(*witnesses[1]) == self.solo, "the gRPC witness was disturbed"
        expected = before.answered() + collections.Counter(http=int(witnessed), grpc=int(witnessed))
        self.until_baseline(expected, descriptors, threads, http, grpc)
        if http is None or grpc is None:  # what is counted late must not be taken for the next case's
            self.settle(self.quiet)
        self.check_logs()

    def quiet(self):
        seen = self.scrape().answered()
        time.sleep(0.05)
        return self.scrape().answered() == seen

    def settle(self, done):
        """gRPC counts a call when it lets go of it, which may be after its client has gone on."""
        deadline = time.monotonic() + self.patience_s
        while not done():
            assert time.monotonic() < deadline, "the counts of requests do not settle"
            time.sleep(0.005)

    def until_baseline(self, expected, descriptors, threads, http, grpc):
        deadline = time.monotonic() + self.patience_s
        while True:
            now = self.scrape()
            seen = {name: now.sum(name) for name in GAUGES}
            seen["listed"] = len(json.loads(self.get("/v1/requests"))["data"])
            seen["accepted but not ended"] = (now.sum("trireme_requests_submitted_total") -
                                              now.sum("trireme_requests_finished_total"))
            seen["connections"] = now.sum("trireme_http_connections") - 1
            seen["descriptors"] = max(0, self.descriptors() - descriptors)
            here = self.threads()
            seen["threads"] = here["ours"] - threads["ours"]
            seen["foreign threads beyond their bound"] = max(0, here["foreign"] - MAX_FOREIGN_THREADS)
            for door, wanted in (("http", http), ("grpc", grpc)):
                counted = now.answered()[door] - expected[door]
                seen[f"{door} requests counted"] = 0 if wanted is None and counted >= 0 else counted - (wanted or 0)
            wrong = {name: value for name, value in seen.items() if value}
            if not wrong:
                return
            assert time.monotonic() < deadline, f"not back to baseline: {wrong}"
            time.sleep(0.005)

    def check_logs(self):
        lines = self.server.logs().splitlines()
        fresh, self.logs_read = lines[self.logs_read:], len(lines)
        for line in fresh:
            assert isinstance(json.loads(line), dict), f"a forged or torn log line: {line}"
            for word in self.forbidden:
                assert word not in line, f"the log tells {word}: {line}"
