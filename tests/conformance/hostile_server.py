"""Servers that answer a load generator as none should: over HTTP, where the first part of the target's path chooses how,
and over gRPC."""
import asyncio
import collections
import concurrent.futures
import contextlib
import json
import threading

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
END = b"0\r\n\r\n"


def chunk(payload):
    return b"%x\r\n%s\r\n" % (len(payload), payload)


def event(text, finish=None):
    return b"data: " + json.dumps({"choices": [{"index": 0, "delta": {"content": text}, "finish_reason": finish}]}).encode() + b"\n\n"


def whole(status, body, kind=b"application/json"):
    return b"HTTP/1.1 %d X\r\nContent-Type: %s\r\nContent-Length: %d\r\n\r\n%s" % (status, kind, len(body), body)


DONE = chunk(b"data: [DONE]\n\n") + END
SAID = {
    "fine": HEAD + chunk(event("a", "stop")) + DONE,
    "three": HEAD + chunk(event("") + event("a") + event("b") + event("") + event("c", "stop")) + DONE,
    "garbage": HEAD + chunk(b"data: {{{{\x00\xff garbage\n\n"),  # and no more
    "no-finish": HEAD + chunk(event("a")) + END,
    "html": whole(500, b"<html><script>alert(1)</script>\x1b[31m oops</html>" * 100, b"text/html"),
    "redirect": b"HTTP/1.1 302 F\r\nLocation: /x\r\nContent-Length: 0\r\n\r\n",
    "no-stream": whole(200, b'{"choices":[]}'),
    "twice": HEAD + chunk(event("a", "stop")) + DONE + HEAD + chunk(event("forged") * 5) + DONE,
    "cased": HEAD.replace(b"text/event-stream", b"Text/Event-Stream; charset=utf-8") + chunk(event("a", "stop")) + END,
    "head": b"HTTP/1.1 200 OK\r\nX: " + b"a" * 100000 + b"\r\n\r\n",
}
ENDLESS = {  # head, then this for ever
    "endless-line": (HEAD, chunk(b"x" * 65536)),
    "endless-event": (HEAD, chunk(b"data: " + b"x" * 65536)),
    "endless-answer": (HEAD, chunk(event("a") * 500)),
}


class HostileHttp:
    """On 127.0.0.1, in a thread of its own, until the `with` block ends. `asked` counts requests by mode."""

    def __enter__(self):
        self.asked = collections.Counter()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        self._server = self._do(asyncio.start_server(self._serve, "127.0.0.1", 0))
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    def __exit__(self, *_):
        self._do(self._stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def target(self, mode):
        return f"http://127.0.0.1:{self.port}/{mode}"

    def _do(self, coroutine):
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(60)

    async def _stop(self):
        self._server.close()
        tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _serve(self, reader, writer):
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            while await self._answer(reader, writer):
                pass
        writer.close()

    async def _answer(self, reader, writer):
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin1")
        method, path, _ = head.split("\r\n")[0].split(" ")
        mode = path.split("/")[1]
        if method == "GET":
            if mode == "silent":
                await asyncio.Event().wait()
            writer.write(whole(200, json.dumps({"data": [{"id": '<b>mock</b>&"x'}]}).encode()))
            return True
        if mode == "early-refusal":  # by the head alone
            writer.write(whole(413, b'{"error":{"message":"too big"}}').replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
            await writer.drain()
            return False
        length, = (int(line.split(":")[1]) for line in head.split("\r\n") if line.lower().startswith("content-length:"))
        await reader.readexactly(length)
        self.asked[mode] += 1
        if mode == "never":
            await asyncio.Event().wait()
        elif mode == "dies":
            writer.write(HEAD + chunk(event("a")))
            await writer.drain()
            writer.transport.abort()
            return False
        elif mode == "dies-inside":
            writer.write(HEAD + chunk(event("a")) + b"10\r\nabc")
            return False
        elif mode == "drops-used":  # every second request meets a connection that closes
            if self.asked[mode] % 2 == 0:
                writer.transport.abort()
                return False
            writer.write(SAID["fine"])
        elif mode in ENDLESS:
            first, again = ENDLESS[mode]
            writer.write(first)
            while True:
                writer.write(again)
                await writer.drain()
        else:
            writer.write(SAID[mode])
        return True


@contextlib.contextmanager
def hostile_grpc(stubs, endless):
    """The port of a server whose answers have three messages with text, or no end of them."""
    import grpc
    pb, pb_grpc = stubs

    class Servicer(pb_grpc.InferenceServicer):
        def GetModelInfo(self, request, context):
            return pb.GetModelInfoResponse(id="mock")

        def Generate(self, request, context):
            while endless and context.is_active():
                yield pb.GenerateResponse(text="a", token_ids=[1])
            for text in ("", "a", "b", "", "c"):
                yield pb.GenerateResponse(text=text, token_ids=[1])
            yield pb.GenerateResponse(usage=pb.Usage(prompt_tokens=9, completion_tokens=5))

    server = grpc.server(concurrent.futures.ThreadPoolExecutor(4))
    pb_grpc.add_InferenceServicer_to_server(Servicer(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield port
    server.stop(None).wait()
