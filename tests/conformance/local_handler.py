"""What the local servers of these tests have in common."""
import contextlib
import http.server


class LocalHandler(http.server.BaseHTTPRequestHandler):
    """HTTP/1.1 without delays and without a word; a client that goes away is nothing to tell of."""
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, *_):
        pass

    def handle(self):
        with contextlib.suppress(OSError):
            super().handle()
