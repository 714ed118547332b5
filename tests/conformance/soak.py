#!/usr/bin/env python3
"""Soak: good, bad, cancelled and abandoned requests through both doors at once, for as long as asked; then rule P.

    soak.py --binary build/release/trireme --seconds 600 --json soak.json

Passes when every good answer equals its solo run, everything is back to baseline at the end, and meanwhile: now and then
all clients rest, and then nothing runs and no KV block is held; descriptors and threads stay; and memory does not grow:
the fit of RSS over the second half rises by less than NOISE and MAX_SLOPE allow. (Measured: 19 kB in 45 s.)
"""
import argparse
import collections
import json
import os
import pathlib
import random
import sys
import tempfile
import threading
import time

import pytest

pytest.register_assert_rewrite("doors", "rule_p")
import tiny_model  # noqa: E402
from conftest import Server, load_stubs  # noqa: E402
from doors import Doors, post_bytes  # noqa: E402
from rule_p import CANARY, RuleP  # noqa: E402
from test_faults_clients import GrpcClient, HttpClient  # noqa: E402

WORKERS = 8
MAX_SLOPE = (2 << 20) / 300  # bytes a second: 2 MiB in five minutes
NOISE = 1 << 20  # of short runs, in which allocators and stacks still find their size
RESTS = 12  # in a run
GOOD = [{"prompt": "story " * (1 + 7 * i), "max_tokens": 20 + 9 * i, "seed": i, "temperature": 0.8} for i in range(16)]
BAD_FIELDS = [{"n": -1}, {"temperature": 3}, {"max_tokens": 10**6}, {"stop": [""]}, {"model": CANARY}, {"top_p": 0},
              {"logit_bias": {10**6: 1}}, {"prompt": "x" * 5000}]
BAD_BYTES = [b"{", b"[" * 1000, b'{"model": "demo", "prompt": "\xff"}', b"x" * 10000, b'{"a":' * 200, b""]


class Soak:
    def __init__(self, rule_p, rng):
        self.rule_p, self.doors, self.rng = rule_p, Doors(rule_p), rng
        self.solo = [self.good_over_http(i) for i in range(len(GOOD))]
        self.done = collections.Counter()
        self.failures = []
        self.stop = threading.Event()
        self.go, self.resting, self.lock = threading.Event(), 0, threading.Lock()
        self.go.set()

    # ---- What clients do.

    def good_over_http(self, i):
        body = {"model": "demo", "ignore_eos": True, **GOOD[i]}
        verdict = post_bytes(self.rule_p.server, "/v1/completions", json.dumps(body))
        assert verdict.status == 200, verdict
        return verdict.json["choices"][0]["text"]

    def good_over_grpc(self, i):
        pb, fields = self.rule_p.pb, dict(GOOD[i])
        sampling = pb.SamplingParams(seed=fields.pop("seed"), temperature=fields.pop("temperature"))
        request = pb.GenerateRequest(ignore_eos=True, sampling=sampling, **fields)
        return "".join(answer.text for answer in self.rule_p.stub.Generate(request, timeout=120))

    def good(self, rng, door):
        i = rng.randrange(len(GOOD))
        assert door(i) == self.solo[i], f"request {i} was disturbed"

    def bad(self, rng):
        assert self.doors.send(rng.choice(Doors.NAMES), **rng.choice(BAD_FIELDS)).status in (400, 404)

    def nonsense(self, rng):
        path = rng.choice(["/v1/completions", "/v1/chat/completions", "/tokenize"])
        assert post_bytes(self.rule_p.server, path, rng.choice(BAD_BYTES)).status == 400

    def vanish(self, rng):
        http = rng.random() < 0.5
        client = (HttpClient if http else GrpcClient)(self.rule_p, prompt=f"{rng.random()} " * rng.randrange(1, 40),
                                                      max_tokens=rng.randrange(1, 900), n=rng.choice([1, 1, 3]))
        if rng.random() < 0.7:
            client.read_some()
        client.leave(rng.choice(["close", "reset"] if http else ["cancel", "twice"]))

    def cancel(self, rng):
        name = f"soak-{rng.random()}"
        client = HttpClient(self.rule_p, prompt="x", max_tokens=1500, request_id=name)
        client.read_some()
        self.rule_p.stub.Abort(self.rule_p.pb.AbortRequest(request_id=name), timeout=30)
        client.read_all()
        client.leave("close")

    def run(self, seed):
        rng = random.Random(seed)
        actions = [("good over http", lambda: self.good(rng, self.good_over_http)),
                   ("good over grpc", lambda: self.good(rng, self.good_over_grpc)),
                   *[(name, lambda act=act: act(rng)) for name, act in (
                       ("bad", self.bad), ("nonsense", self.nonsense), ("vanish", self.vanish), ("cancel", self.cancel))]]
        while not self.stop.is_set():
            if not self.go.is_set():
                with self.lock:
                    self.resting += 1
                self.go.wait()
                with self.lock:
                    self.resting -= 1
            name, act = rng.choice(actions)
            try:
                act()
            except Exception as error:  # of any kind: it is what the soak looks for
                self.failures.append(f"{name}: {error!r}"[:1000])
                self.stop.set()
            self.done[name] += 1


    def rest(self, started):
        """A sample of the node when nobody wants anything of it."""
        self.go.clear()
        deadline = time.monotonic() + self.rule_p.patience_s
        try:
            while not self.stop.is_set() and time.monotonic() < deadline:
                seen = sample(self.rule_p, started)
                if self.resting == WORKERS and not seen["running"] + seen["waiting"]:
                    return {**seen, "idle": True}
                time.sleep(0.005)
        finally:
            self.go.set()
        if not self.stop.is_set():
            self.failures.append(f"not idle although all clients rest: {seen}")
            self.stop.set()
        return {**seen, "idle": False}


def sample(rule_p, started):
    with open(f"/proc/{rule_p.server.process.pid}/statm") as statm:
        rss = int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    scrape, threads = rule_p.scrape(), rule_p.threads()
    return {"seconds": round(time.monotonic() - started, 2), "rss_bytes": rss, "descriptors": rule_p.descriptors(),
            "own_threads": threads["ours"], "grpc_threads": threads["foreign"],
            "kv_blocks_held": scrape.sum("trireme_kv_blocks_held"), "running": scrape.sum("trireme_requests_running"),
            "waiting": scrape.sum("trireme_requests_waiting"),
            "kv_blocks_cached": scrape.sum("trireme_kv_blocks_cached"), "connections": scrape.sum("trireme_http_connections")}


def growth(samples):
    """Rise of the least-squares line through the RSS of the second half, and what it may be."""
    half = samples[len(samples) // 2:]
    xs, ys = [s["seconds"] for s in half], [s["rss_bytes"] for s in half]
    mean_x, mean_y = sum(xs) / len(xs), sum(ys) / len(ys)
    slope = sum((x - mean_x) * (y - mean_y) for x, y in zip(xs, ys)) / sum((x - mean_x) ** 2 for x in xs)
    span = xs[-1] - xs[0]
    return slope * span, NOISE + MAX_SLOPE * span


def soak(rule_p, seconds, seed=1):
    """The report."""
    load, samples = Soak(rule_p, random.Random(seed)), []
    baseline = sample(rule_p, time.monotonic())
    breach = None
    try:
        with rule_p.holds(witnessed=False):
            started = time.monotonic()
            threads = [threading.Thread(target=load.run, args=(seed * 1000 + i,)) for i in range(WORKERS)]
            for thread in threads:
                thread.start()
            rests = [started + seconds * (i + 1) / (RESTS + 1) for i in range(RESTS)]
            while not load.stop.wait(max(0.25, seconds / 300)):
                due = bool(rests) and time.monotonic() >= rests[0]
                samples.append(load.rest(started) if due else {**sample(rule_p, started), "idle": False})
                del rests[:int(due)]
                if time.monotonic() - started >= seconds:
                    load.stop.set()
            for thread in threads:
                thread.join()
    except AssertionError as error:
        breach = str(error)[:2000]
    rise, most_rise = growth(samples)
    failures = load.failures + [f"rule P: {breach}"] * (breach is not None)
    if rise > most_rise:
        failures.append(f"RSS rose by {rise:.0f} bytes over the second half; {most_rise:.0f} are noise and slope allowed")
    failures += [f"KV blocks held while idle: {s}" for s in samples if s["idle"] and s["kv_blocks_held"]][:3]
    most = max(s["descriptors"] for s in samples) - baseline["descriptors"]
    if most > 4 * WORKERS:
        failures.append(f"{most} descriptors above baseline")
    if {s["own_threads"] for s in samples} != {baseline["own_threads"]}:
        failures.append("threads came and went")
    return {"seconds": seconds, "seed": seed, "requests": dict(load.done), "rss_growth_bytes": round(rise),
            "rss_growth_allowed_bytes": round(most_rise), "rests": sum(s["idle"] for s in samples),
            "baseline": baseline, "after": sample(rule_p, time.monotonic()) if breach is None else None,
            "failures": failures, "verdict": "fail" if failures else "pass", "samples": samples}


def guarded_server(binary, directory, stubs):
    # Little KV memory: all of it is touched soon, and sequences are preempted.
    model = tiny_model.write_random(pathlib.Path(directory) / "tiny")
    return RuleP(Server(binary, str(model), "--threads", "2", "--kv-cache-memory", "8MiB", "--max-waiting", "4096"), stubs)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", default="build/release/trireme")
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", help="where the report goes, samples included")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        rule_p = guarded_server(options.binary, directory, load_stubs())
        report = soak(rule_p, options.seconds, options.seed)
        rule_p.close()
        rule_p.server.stop()
    if options.json:
        pathlib.Path(options.json).write_text(json.dumps(report, indent=1) + "\n")
    print(json.dumps({name: value for name, value in report.items() if name != "samples"}, indent=1))
    return report["verdict"] != "pass"


if __name__ == "__main__":
    sys.exit(main())
