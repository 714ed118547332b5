"""A file server with ranges, ETags and faults on demand; HTTP or, with a CA of its own, HTTPS."""
import hashlib
import http.server
import re
import ssl
import subprocess
import threading

from local_handler import LocalHandler


class RangeServer:
    """Serves `files` (path -> bytes). What goes wrong is set on the object, before or while clients ask."""

    def __init__(self, tls=None):
        self.files = {}
        self.etags = {}  # path -> ETag in place of the content's hash; None: none is sent
        self.ignore_ranges = False
        self.chunked = False  # no Content-Length
        self.answers = []  # (status, header fields, body): given to the next requests instead of the file
        self.redirects = {}  # path -> location
        self.drop_after = None  # bytes of a body after which the connection breaks ...
        self.drops = 0  # ... so many times
        self.stall_after = None  # bytes of a body after which nothing more comes ...
        self.resume = threading.Event()  # ... until this
        self.lie = None  # changes (status, fields, body) of an answer with a body
        self.requests = []  # (method, path, header fields)
        self.sent_bytes = 0
        self._lock = threading.Lock()
        handler = type("Handler", (_Handler,), {"owner": self})
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        if tls:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(tls.certificate, tls.key)
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True,
                                                      do_handshake_on_connect=False)
        self.port = self._server.server_address[1]
        self.base = f"{'https' if tls else 'http'}://127.0.0.1:{self.port}"
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def close(self):
        self.resume.set()
        self._server.shutdown()
        self._server.server_close()

    def asked(self, path):
        with self._lock:
            return [(method, fields) for method, asked, fields in self.requests if asked.split("?")[0] == path]


class _Handler(LocalHandler):
    owner = None

    def do_PUT(self):
        self.do_GET()

    def do_HEAD(self):
        self.do_GET()

    def do_GET(self):
        owner = self.owner
        path = self.path.split("?")[0]
        with owner._lock:
            owner.requests.append((self.command, self.path, dict(self.headers.items())))
            answer = owner.answers.pop(0) if owner.answers else None
        if answer:
            self.reply(*answer)
        elif path in owner.redirects:
            self.reply(302, {"Location": owner.redirects[path]}, b"")
        elif path not in owner.files:
            self.reply(404, {}, b"{}")
        else:
            self.reply_file(path)

    def reply_file(self, path):
        owner = self.owner
        body = owner.files[path]
        if callable(body):
            body = body()
        tag = owner.etags.get(path, f'"{hashlib.md5(body).hexdigest()}"')
        fields = {"ETag": tag} if tag else {}
        wanted = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        same = self.headers.get("If-Range") in (None, tag)
        if not wanted or owner.ignore_ranges or not same:
            return self.reply(200, fields, body)
        begin, end = int(wanted[1]), min(int(wanted[2]) + 1, len(body))
        if begin >= len(body):
            return self.reply(416, {"Content-Range": f"bytes */{len(body)}"}, b"")
        self.reply(206, {**fields, "Content-Range": f"bytes {begin}-{end - 1}/{len(body)}"}, body[begin:end])

    def reply(self, status, fields, body):
        owner = self.owner
        if owner.lie and body:
            status, fields, body = owner.lie(status, dict(fields), body)
        chunked = owner.chunked and status == 200
        self.send_response(status)
        for name, value in fields.items():
            self.send_header(name, value)
        if chunked:
            self.send_header("Transfer-Encoding", "chunked")
        elif "Content-Length" not in fields:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "HEAD":
            return
        sent = 0
        while sent < len(body):
            if owner.stall_after is not None and sent >= owner.stall_after:
                owner.resume.wait()
            if owner.drop_after is not None and sent >= owner.drop_after and self.take_drop():
                self.close_connection = True
                self.connection.close()
                return
            piece = body[sent:sent + (64 << 10)]
            self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece) if chunked else piece)
            sent += len(piece)
            with owner._lock:
                owner.sent_bytes += len(piece)
        if chunked:
            self.wfile.write(b"0\r\n\r\n")
        if sent != int(fields.get("Content-Length", sent)):
            self.close_connection = True

    def take_drop(self):
        with self.owner._lock:
            if self.owner.drops <= 0:
                return False
            self.owner.drops -= 1
            return True


class Authority:
    """A CA made for one test run, and a certificate of it for 127.0.0.1."""

    def __init__(self, folder):
        self.ca, self.certificate, self.key = folder / "ca.pem", folder / "cert.pem", folder / "key.pem"

        def openssl(*arguments):
            subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True)
        openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", 2, "-subj", "/CN=Test CA",
                "-keyout", folder / "ca.key", "-out", self.ca)
        openssl("req", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=127.0.0.1", "-keyout", self.key,
                "-out", folder / "request.pem")
        (folder / "extensions").write_text("subjectAltName=IP:127.0.0.1\n")
        openssl("x509", "-req", "-in", folder / "request.pem", "-CA", self.ca, "-CAkey", folder / "ca.key",
                "-CAcreateserial", "-days", 2, "-extfile", folder / "extensions", "-out", self.certificate)
