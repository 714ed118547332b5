"""A bad request through each door, and what the door says of it: one Verdict, whatever the wire."""
import dataclasses
import http.client
import json
import re

import grpc

from rule_p import CANARY

HTTP_OF = {"INVALID_ARGUMENT": 400, "UNAUTHENTICATED": 401, "PERMISSION_DENIED": 403, "NOT_FOUND": 404, "RESOURCE_EXHAUSTED": 429,
           "CANCELLED": 499, "UNIMPLEMENTED": 501, "UNAVAILABLE": 503, "DEADLINE_EXCEEDED": 504, "INTERNAL": 500}
TYPES = {400: "invalid_request_error", 401: "invalid_request_error", 404: "invalid_request_error",
         429: "rate_limit_error", 499: "invalid_request_error", 500: "server_error", 503: "server_error", 504: "server_error"}
ADDRESS = re.compile(r"0x[0-9a-f]{6,}|/(tmp|root|home|usr|proc)/")


@dataclasses.dataclass
class Verdict:
    status: int  # as HTTP has it; 200: accepted
    param: str | None = None
    code: str | None = None
    message: str = ""
    headers: dict = dataclasses.field(default_factory=dict)
    body: bytes = b""

    @property
    def json(self):
        return json.loads(self.body)


def check_message(message, secrets=()):
    """An error says nothing that its reader did not know, and nothing about the machine."""
    assert message and len(message) < 2000
    for secret in (CANARY, *secrets):
        assert secret not in message, message
    assert not ADDRESS.search(message), message


def post_bytes(server, path, body, headers=None, secrets=()):
    """POSTs `body` as it is. An error's shape is checked here, exactly."""
    connection = http.client.HTTPConnection("127.0.0.1", server.http_port, timeout=120)
    try:
        connection.request("POST", path, body, {"content-type": "application/json", **(headers or {})})
        answer = connection.getresponse()
        data, found = answer.read(), {name.lower(): value for name, value in answer.getheaders()}
    finally:
        connection.close()
    assert found["x-request-id"]
    if answer.status == 200:
        return Verdict(200, headers=found, body=data)
    return http_verdict(answer.status, found, data, secrets)


def http_verdict(status, headers, data, secrets=()):
    assert headers["content-type"] == "application/json" and headers["x-request-id"]
    document = json.loads(data)
    assert set(document) == {"error"} and set(document["error"]) == {"message", "type", "param", "code"}, document
    error = document["error"]
    assert error["type"] == TYPES.get(status, "invalid_request_error"), document
    check_message(error["message"], secrets)
    if status in (429, 503):
        assert int(headers["retry-after"]) > 0 and headers["x-should-retry"] == "true"
    return Verdict(status, error["param"], error["code"], error["message"], headers, data)


def post(server, path, fields, **more):
    return post_bytes(server, path, json.dumps(fields), **more)


def call(method, request, metadata=(), timeout=120, secrets=()):
    """One gRPC call to its end, a stream or not. An accepted one's answers are in `body`, serialised."""
    try:
        answer = method(request, metadata=metadata, timeout=timeout)
        answers = list(answer) if hasattr(answer, "__iter__") else [answer]
    except grpc.RpcError as error:
        check_message(error.details(), secrets)
        trailers = dict(error.trailing_metadata() or ())
        initial = dict(error.initial_metadata() or ())
        return Verdict(HTTP_OF[error.code().name], trailers.get("trireme-param"), trailers.get("trireme-code"),
                       error.details(), {**initial, **trailers})
    return Verdict(200, body=b"".join(answer.SerializeToString() for answer in answers))


class Doors:
    """The three doors of generation, in the names of our proto."""

    NAMES = ("chat", "completions", "grpc")

    def __init__(self, rule_p):
        self.rule_p, self.server, self.pb = rule_p, rule_p.server, rule_p.pb

    def send(self, door, **fields):
        fields = {"model": "demo", "max_tokens": 4, **fields}
        return self.grpc(fields) if door == "grpc" else self.http(door, fields)

    def http(self, door, fields):
        if isinstance(fields.get("logit_bias"), dict):
            fields["logit_bias"] = {str(id): bias for id, bias in fields["logit_bias"].items()}
        ids = fields.pop("token_ids", None)
        if door == "completions":
            fields = {"prompt": CANARY if ids is None else ids, **fields}
        else:
            fields = {"messages": [{"role": "user", "content": fields.pop("prompt", CANARY)}], **fields}
            if "logprobs" in fields:
                fields.update(logprobs=True, top_logprobs=fields["logprobs"])
        path = "/v1/chat/completions" if door == "chat" else "/v1/completions"
        return post(self.server, path, fields, headers=self.rule_p.http_headers)

    def grpc(self, fields):
        pb = self.pb
        sampling = {name: fields.pop(name) for name in pb.SamplingParams.DESCRIPTOR.fields_by_name if name in fields}
        if isinstance(sampling.get("logit_bias"), dict):
            sampling["logit_bias"] = [pb.LogitBias(token_id=id, bias=b) for id, b in sampling["logit_bias"].items()]
        if "token_ids" in fields:
            fields["token_ids"] = pb.TokenIds(ids=fields["token_ids"])
        elif "chat" not in fields:
            fields = {"prompt": CANARY, **fields}
        request = pb.GenerateRequest(sampling=pb.SamplingParams(**sampling), **fields)
        return call(self.rule_p.stub.Generate, request, self.rule_p.metadata)
