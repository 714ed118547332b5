"""S3 in front of moto: checks every signature with botocore's own signer, over the request as it came.

moto can check them, too, but computes them over decoded paths, so that it refuses boto3's requests for keys with a plus
or a letter beyond ASCII.
"""
import http.client
import http.server
import re
import threading

from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from moto.server import ThreadedMotoServer

from local_handler import LocalHandler


class S3Front:
    def __init__(self):
        self._moto = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
        self._moto.start()
        self.moto = self._moto.get_host_and_port()
        self.keys = {"reader": "s3cret/with+signs", "other": "another"}  # access key -> secret key
        self.allowed = "reader"
        self.session_token = None  # that requests must carry, signed
        self.region = "us-east-1"  # of every bucket
        self.refused = []
        handler = type("Handler", (_Handler,), {"front": self})
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        self.base = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def reset(self):
        self.forward("POST", "/moto-api/reset", {}, b"")
        self.session_token, self.region = None, "us-east-1"
        self.refused.clear()

    def close(self):
        self._server.shutdown()
        self._server.server_close()
        self._moto.stop()

    def forward(self, method, path, fields, body):
        connection = http.client.HTTPConnection(*self.moto, timeout=60)
        connection.request(method, path, body or None, fields)
        answer = connection.getresponse()
        content = answer.read()
        connection.close()
        return answer.status, answer.getheaders(), content

    def objection(self, method, path, fields):
        """Why a request is refused; None: it is not. `fields`: names in lower case."""
        parts = re.fullmatch(r"AWS4-HMAC-SHA256 Credential=([^/]+)/\d{8}/([^/]+)/s3/aws4_request, ?"
                             r"SignedHeaders=([^,]+), ?Signature=([0-9a-f]{64})", fields.get("authorization", ""))
        if not parts:
            return "no signature"
        access, region, names, signature = parts[1], parts[2], parts[3].split(";"), parts[4]
        if access != self.allowed:
            return "another user"
        if region != self.region:
            return "another region"
        if self.session_token and ("x-amz-security-token" not in names
                                   or fields.get("x-amz-security-token") != self.session_token):
            return "no session token, or not signed"
        if not {"host", "x-amz-date", "x-amz-content-sha256"} <= set(names):
            return "too few fields are signed"
        request = AWSRequest(method, f"http://{fields['host']}{path}",
                             headers={name: fields[name] for name in names})
        request.context["timestamp"] = fields["x-amz-date"]
        signer = S3SigV4Auth(Credentials(access, self.keys[access]), "s3", region)
        text = signer.string_to_sign(request, signer.canonical_request(request))
        return None if signer.signature(text, request) == signature else "the signature is wrong"


class _Handler(LocalHandler):
    front = None

    def answer(self):
        fields = {name.lower(): value for name, value in self.headers.items()}
        if fields.get("expect"):
            self.send_response_only(100)
            self.end_headers()
        body = self.rfile.read(int(fields.get("content-length", 0)))
        objection = self.front.objection(self.command, self.path, fields)
        if objection:
            self.front.refused.append((self.path, objection))
            status = 400 if objection == "another region" else 403
            headers, content = [("x-amz-bucket-region", self.front.region)], b"<Error><Code>Denied</Code></Error>"
        else:
            dropped = ("host", "connection", "expect")
            status, headers, content = self.front.forward(
                self.command, self.path, {k: v for k, v in fields.items() if k not in dropped}, body)
        self.send_response_only(status)
        length = None
        for name, value in headers:
            if name.lower() == "content-length":
                length = value
            elif name.lower() not in ("connection", "transfer-encoding"):
                self.send_header(name, value)
        self.send_header("Content-Length", length if self.command == "HEAD" and length else str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    do_GET = do_HEAD = do_PUT = do_POST = answer
