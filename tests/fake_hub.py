"""A stand-in for a model hub on loopback, since tests have no network: not a hub, only the routes a download uses.

Answers model information with sizes and hashes, and files with ETag, commit and Range, and misbehaves where told to.
"""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

COMMIT = "0123456789abcdef0123456789abcdef01234567"
LARGE = 1000  # files from this size on are "LFS" files, whose SHA-256 the hub knows


@dataclass
class FakeHub:
    """What the hub holds and how it misbehaves.

    Attributes:
        files: content by path, of every model it knows.
        models: names of the models.
        gated: models that need the token "good".
        cut_after: bytes after which it closes the connection of a file, once per file.
        stall_after: bytes after which it stops sending, once per file.
        wrong: files whose content differs from the hash it gives.
        files_at: URL that requests for files are redirected to, as large hubs do.
        log: (method, path, Range header) of each request.
        tokens: the Authorization header of each request.
    """

    files: dict[str, bytes]
    models: set[str] = field(default_factory=lambda: {"org/model"})
    gated: set[str] = field(default_factory=set)
    cut_after: int | None = None
    stall_after: int | None = None
    stall_seconds: float = 3.0
    wrong: set[str] = field(default_factory=set)
    files_at: str | None = None
    log: list[tuple[str, str, str | None]] = field(default_factory=list)
    tokens: list[str | None] = field(default_factory=list)
    once: set[str] = field(default_factory=set)
    url: str = ""

    def information(self, model: str) -> dict[str, Any]:
        """What /api/models/MODEL/revision/REVISION?blobs=true answers."""
        siblings = []
        for path, content in self.files.items():
            blob = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
            entry: dict[str, Any] = {"rfilename": path, "size": len(content), "blobId": blob}
            if len(content) >= LARGE:
                entry["lfs"] = {"sha256": hashlib.sha256(content).hexdigest(), "size": len(content), "pointerSize": 130}
            siblings.append(entry)
        return {
            "id": model,
            "modelId": model,
            "sha": COMMIT,
            "siblings": siblings,
            "tags": [],
            "private": False,
            "downloads": 0,
        }


class Handler(BaseHTTPRequestHandler):
    """One request."""

    hub: FakeHub
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None:
        """Keep the tests' output clean."""

    def refuse(self, status: int, code: str, text: str) -> None:
        """Answer with the headers by which huggingface_hub tells errors apart."""
        self.send_response(status)
        self.send_header("X-Error-Code", code)
        self.send_header("X-Error-Message", text)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def allowed(self, model: str) -> bool:
        """Answer for unknown and gated models; true if the request may go on."""
        if model not in self.hub.models:
            self.refuse(404, "RepoNotFound", "Repository not found")
        elif model in self.hub.gated and self.headers.get("Authorization") != "Bearer good":
            self.refuse(401, "GatedRepo", f"Access to model {model} is restricted.")
        else:
            return True
        return False

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        self.hub.log.append((self.command, path, self.headers.get("Range")))
        self.hub.tokens.append(self.headers.get("Authorization"))
        parts = path.strip("/").split("/")
        if parts[:2] == ["api", "models"]:
            model = "/".join(parts[2:4])
            if not self.allowed(model):
                return
            if len(parts) > 5 and parts[5] not in ("main", COMMIT):
                self.refuse(404, "RevisionNotFound", "Invalid rev id")
                return
            self.send(json.dumps(self.hub.information(model)).encode(), "application/json")
        elif len(parts) > 3 and parts[2] == "resolve":
            name = "/".join(parts[4:])
            if not self.allowed("/".join(parts[:2])):
                return
            if self.hub.files_at is not None:
                self.send_response(302)
                self.send_header("Location", self.hub.files_at + path)
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            if name not in self.hub.files:
                self.refuse(404, "EntryNotFound", "Entry not found")
                return
            content = self.hub.files[name]
            self.send(bytes(len(content)) if name in self.hub.wrong else content, "application/octet-stream", name)
        else:
            self.refuse(404, "", "")

    def send(self, content: bytes, kind: str, name: str = "") -> None:
        """Send a body, or the part of it that a Range header asks for; misbehave as told, once per file."""
        first, _, last = (self.headers.get("Range") or "bytes=0-").removeprefix("bytes=").partition("-")
        start, whole, digest = int(first), len(content), hashlib.sha256(content).hexdigest()
        content = content[: int(last) + 1] if last else content
        self.send_response(206 if start or last else 200)
        if start or last:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{whole}")
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content) - start))
        self.send_header("ETag", f'"{digest}"')
        self.send_header("X-Linked-Size", str(whole))
        self.send_header("X-Repo-Commit", COMMIT)
        self.end_headers()
        if self.command == "HEAD":
            return
        untouched = name not in self.hub.once
        limit = self.hub.cut_after if self.hub.cut_after is not None else self.hub.stall_after
        if name and untouched and limit is not None and limit < len(content) - start:
            self.hub.once.add(name)
            self.wfile.write(content[start : start + limit])
            self.wfile.flush()
            if self.hub.stall_after is not None:
                time.sleep(self.hub.stall_seconds)
            self.close_connection = True
            self.connection.close()
            return
        self.wfile.write(content[start:])


@contextmanager
def serve(hub: FakeHub, address: str = "127.0.0.1", port: int = 0) -> Iterator[FakeHub]:
    """Serve `hub` until the block ends; its `url` tells where."""
    server = ThreadingHTTPServer((address, port), type("BoundHandler", (Handler,), {"hub": hub}))
    hub.url = f"http://{address}:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
