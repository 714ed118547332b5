"""A real OTLP/HTTP collector, as far as traces go: keeps the spans it is sent, and fails when it is told to."""
import http.server
import json
import threading
import time


class Collector:
    def __init__(self):
        self.spans, self.headers, self.resources, self.paths = [], [], [], []
        self.answers = []      # (status, headers) of the next exports; then 200
        self.hold = None       # an Event: exports wait for it
        self.attempts = 0
        self._lock = threading.Lock()
        collector = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                body = self.rfile.read(int(self.headers["content-length"]))
                if collector.hold is not None:
                    collector.hold.wait(120)
                status, headers = collector._take(self.path, dict(self.headers), body)
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", "2")
                self.end_headers()
                self.wfile.write(b"{}")

            def log_message(self, *_):
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def _take(self, path, headers, body):
        with self._lock:
            self.attempts += 1
            if self.answers:
                answer = self.answers.pop(0)
                if answer[0] != 200:
                    return answer
            document = json.loads(body)
            self.paths.append(path)
            self.headers.append({name.lower(): value for name, value in headers.items()})
            for resource in document["resourceSpans"]:
                self.resources.append(attributes(resource["resource"]))
                for scope in resource["scopeSpans"]:
                    self.spans += scope["spans"]
            return 200, {}

    def wait_for(self, predicate, timeout=60):
        """The spans for which `predicate` is true, once there are any."""
        deadline = time.monotonic() + timeout
        while True:
            with self._lock:
                found = [span for span in self.spans if predicate(span)]
            if found:
                return found
            assert time.monotonic() < deadline, f"no such span among {len(self.spans)}, {self.attempts} exports"
            time.sleep(0.02)

    def server_span(self, request_id):
        return self.wait_for(lambda span: attributes(span).get("trireme.request.id") == request_id)[0]

    def children(self, span):
        with self._lock:
            return {s["name"]: s for s in self.spans if s.get("parentSpanId") == span["spanId"]}

    def close(self):
        if self.hold is not None:
            self.hold.set()
        self._server.shutdown()
        self._server.server_close()


def attributes(carrier):
    out = {}
    for attribute in carrier.get("attributes", []):
        (kind, value), = attribute["value"].items()
        if kind == "intValue":
            assert isinstance(value, str), "64-bit integers are strings in OTLP's JSON"
            value = int(value)
        if kind == "arrayValue":
            value = [item["stringValue"] for item in value["values"]]
        assert attribute["key"] not in out, "keys are unique"
        out[attribute["key"]] = value
    return out
