"""Stands in for vLLM where its answers do not matter: tells which server it is and what it was sent. Checks pass.

usage: stand_in.py PORT MODEL NAME
"""

import http.server
import json
import sys
from typing import Any

PORT, MODEL, NAME = int(sys.argv[1]), sys.argv[2], sys.argv[3]


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers every request with what it was."""

    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""

    def do_GET(self) -> None:
        """Answer the gateway's checks."""
        # As vLLM writes JSON: without blanks.
        self.answer({"object": "list", "data": [{"id": MODEL}]})

    def do_POST(self) -> None:
        """Tell what was sent."""
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        self.answer({"name": NAME, "path": self.path, "headers": dict(self.headers), "bytes": len(body)})

    def answer(self, what: dict[str, Any]) -> None:
        """Send JSON."""
        text = json.dumps(what, separators=(",", ":")).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)


http.server.ThreadingHTTPServer(("0.0.0.0", PORT), Handler).serve_forever()
