"""Stands in for vLLM where its answers do not matter: tells which server it is and what it was sent. Checks pass.

usage: stand_in.py PORT MODEL NAME
"""

import http.server
import json
import sys
import time
from typing import Any

PORT, MODEL, NAME = int(sys.argv[1]), sys.argv[2], sys.argv[3]


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers every request with what it was."""

    protocol_version = "HTTP/1.1"
    # As in vLLM.
    disable_nagle_algorithm = True

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""

    def do_GET(self) -> None:
        """Answer the gateway's checks."""
        # As vLLM writes JSON: without blanks.
        self.answer({"object": "list", "data": [{"id": MODEL}]})

    def do_POST(self) -> None:
        """Tell what was sent; of a body with "stream": true word by word, as long as somebody listens."""
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        if b'"stream": true' in body[:100]:
            self.stream()
            return
        self.answer({"name": NAME, "path": self.path, "headers": dict(self.headers), "bytes": len(body)})

    def stream(self) -> None:
        """Send pieces, one each fifth of a second for 20 s, and print how many were sent."""
        self.send_response(200)
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        sent = 0
        try:
            for sent in range(100):  # noqa: B007 - the last one counts
                self.wfile.write(b"6\r\npiece \r\n")
                time.sleep(0.2)
            self.wfile.write(b"0\r\n\r\n")
        except OSError:
            self.close_connection = True
        print(f"{NAME} sent {sent} pieces", flush=True)

    def answer(self, what: dict[str, Any]) -> None:
        """Send JSON."""
        text = json.dumps(what, separators=(",", ":")).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)


http.server.ThreadingHTTPServer(("0.0.0.0", PORT), Handler).serve_forever()
