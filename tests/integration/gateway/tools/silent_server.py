"""A model server that is silent for a long time before it answers, or between the two halves of its answer.

Input: door (not used), port, seconds. POST streams where its body says so; GET is answered at once. "listening" goes to
the standard output. Ends with its standard input.
"""

from __future__ import annotations

import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from wire import task


class Silent(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    seconds = 0.0

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def do_GET(self) -> None:
        self.answer(b'{"object":"list","data":[{"id":"tiny-embedding"}]}')

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        if b'"stream": true' not in body:
            time.sleep(self.seconds)
            self.answer(b'{"late": true}')
            return
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("transfer-encoding", "chunked")
        self.send_header("connection", "close")
        self.end_headers()
        for text in ("first", "last"):
            data = f"data: {text}\n\n"
            self.wfile.write(f"{len(data):x}\r\n{data}\r\n".encode())
            self.wfile.flush()
            if text == "first":
                time.sleep(self.seconds)
        self.wfile.write(b"0\r\n\r\n")

    def answer(self, body: bytes) -> None:
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        # It must not be kept for a request that is meant for the real server.
        self.send_header("connection", "close")
        self.end_headers()
        self.wfile.write(body)


def main() -> None:
    _, given = task()
    Silent.seconds = given["seconds"]
    server = ThreadingHTTPServer(("127.0.0.1", given["port"]), Silent)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print("listening", flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main()
