"""A stand-in for Dify's console on loopback, which answers as Dify 1.14.2 was seen to answer, for the routes used here.

No Dify: it keeps models and defaults in memory, and its "plugin daemon" accepts whatever `refuses` does not name.
"""

from __future__ import annotations

import base64
import json
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.cookies import SimpleCookie
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

PROVIDER = "langgenius/openai_api_compatible/openai_api_compatible"
EMAIL, PASSWORD = "admin@example.org", "password-of-dify"
ADMIN_KEY, WORKSPACE = "admin-key-of-dify", "7a5f0a3e-0000-4000-8000-000000000001"
HIDDEN = "[__HIDDEN__]"
COMMON = {"display_name", "api_key", "endpoint_url", "endpoint_model_name", "context_size"}
FIELDS = {
    "llm": COMMON
    | {"mode", "max_tokens_to_sample", "agent_thought_support", "function_calling_type", "stream_function_calling"}
    | {"vision_support", "structured_output_support", "stream_mode_auth", "stream_mode_delimiter"}
    | {"stream_include_usage", "compatibility_mode", "token_param_name"},
    "text-embedding": COMMON | {"max_chunks", "encoding_format"},
    "rerank": COMMON,
}

Json = dict[str, Any]


@dataclass
class FakeDify:
    """What this Dify is like, what it has, and what it was asked.

    Attributes:
        version: its own; None where neither /health nor a header tells.
        health: whether /health is passed on to it, which Dify's own nginx does not do.
        plugin: whether OpenAI-API-compatible is installed.
        unknown: fields that the installed plugin does not have.
        refuses: what the plugin daemon says of an endpoint_url that it cannot use.
        breaks_csrf, expires: what it does to sessions.
        hides_others: whether available_credentials is missing in what it tells of a model.
        credentials: by id: model_type, model, name and credentials with their secrets.
        in_use: ids by (model_type, model).
        defaults: models by type.
        log: method and path of each request; changes among them in `changes`.
    """

    version: str | None = "1.14.2"
    health: bool = True
    plugin: bool = True
    unknown: set[str] = field(default_factory=set)
    refuses: dict[str, str] = field(default_factory=dict)
    breaks_csrf: bool = False
    expires: bool = False
    hides_others: bool = False
    credentials: dict[str, Json] = field(default_factory=dict)
    in_use: dict[tuple[str, str], str] = field(default_factory=dict)
    defaults: dict[str, Json] = field(default_factory=dict)
    log: list[tuple[str, str]] = field(default_factory=list)
    bodies: list[Json] = field(default_factory=list)
    url: str = ""

    @property
    def changes(self) -> list[str]:
        """The requests that changed something, or were to."""
        reading = ("/login", "/validate")
        return [
            f"{method} {path.rpartition('/')[2]}"
            for method, path in self.log
            if method in ("POST", "PUT") and not path.endswith(reading)
        ]

    def stored(self, model_type: str) -> Json:
        """The credentials in use of the only model of a type, secrets in clear."""
        (key,) = (one for one in self.in_use if one[0] == model_type)
        found: Json = self.credentials[self.in_use[key]]["credentials"]
        return found

    def refusal(self, model_type: str, credentials: Json) -> str | None:
        """What the plugin daemon says against a model."""
        wrong = [name for name, value in credentials.items() if not isinstance(value, str)]
        if wrong:
            return f"Variable {wrong[0]} should be string"
        return self.refuses.get(credentials.get("endpoint_url", ""))

    def kept(self, model_type: str, credentials: Json) -> Json:
        """What is kept of given credentials: fields that the plugin has."""
        known = FIELDS[model_type] - self.unknown
        return {name: value for name, value in credentials.items() if name in known}


def masked(credentials: Json) -> Json:
    """Credentials as Dify shows them."""
    secret = credentials.get("api_key")
    if secret is None:
        return credentials
    return {**credentials, "api_key": "*" * 20 if len(secret) <= 8 else f"{secret[:6]}{'*' * 12}{secret[-2:]}"}


class Handler(BaseHTTPRequestHandler):
    """One request."""

    dify: FakeDify
    protocol_version = "HTTP/1.1"
    wbufsize = -1

    def log_message(self, format: str, *args: Any) -> None:
        """Keep the tests' output clean."""

    def do_GET(self) -> None:
        self._answer("GET", {})

    def do_POST(self) -> None:
        self._answer("POST", json.loads(self.rfile.read(int(self.headers["Content-Length"])) or b"{}"))

    def do_PUT(self) -> None:
        self._answer("PUT", json.loads(self.rfile.read(int(self.headers["Content-Length"])) or b"{}"))

    def _answer(self, method: str, body: Json) -> None:
        parts = urlsplit(self.path)
        self.dify.log.append((method, parts.path))
        self.dify.bodies.append(body)
        if parts.path == "/health" and self.dify.health:
            version = {} if self.dify.version is None else {"version": self.dify.version}
            self._send(200, {"pid": 1, "status": "ok", **version})
        elif not parts.path.startswith("/console/api/"):
            self._send(404, None)
        else:
            query = {name: values[0] for name, values in parse_qs(parts.query).items()}
            self._send(*self._console(method, parts.path.removeprefix("/console/api/"), body, query))

    def _send(self, status: int, body: Json | None, cookies: tuple[str, ...] = ()) -> None:
        content = b"<html>This page could not be found.</html>" if body is None else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "text/html" if body is None else "application/json")
        self.send_header("Content-Length", str(len(content)))
        if self.path.startswith("/console/api/") and self.dify.version:
            self.send_header("X-Version", self.dify.version)
        for cookie in cookies:
            self.send_header("Set-Cookie", f"{cookie}; Path=/; SameSite=Lax")
        self.end_headers()
        self.wfile.write(content)

    def _console(self, method: str, path: str, body: Json, query: Json) -> tuple[Any, ...]:
        if path == "setup":
            return 200, {"step": "finished"}
        if path == "login":
            return self._login(body)
        if problem := self._unauthorized():
            return 401, {"code": "unauthorized", "message": problem, "status": 401}
        if path == "workspaces/current/default-model":
            return self._defaults(method, body, query)
        prefix = f"workspaces/current/model-providers/{PROVIDER}/models/credentials"
        if not path.startswith(prefix):
            return 200, {"credentials": {}, "current_credential_id": None, "available_credentials": []}
        if not self.dify.plugin:
            return 400, {"code": "invalid_param", "message": f"Provider {PROVIDER} does not exist.", "status": 400}
        if path == f"{prefix}/validate":
            said = self.dify.refusal(body["model_type"], body["credentials"])
            return 200, {"result": "success"} if said is None else {"result": "error", "error": said}
        return {"GET": self._read, "POST": self._create, "PUT": self._update}[method](body or query)

    def _login(self, body: Json) -> tuple[Any, ...]:
        if body.get("email") != EMAIL or base64.b64decode(body.get("password", "")).decode() != PASSWORD:
            message = "Invalid email or password."
            return 401, {"code": "authentication_failed", "message": message, "status": 401}
        return 200, {"result": "success"}, ("access_token=access", "refresh_token=refresh", "csrf_token=csrf")

    def _unauthorized(self) -> str | None:
        if self.headers["Authorization"] == f"Bearer {ADMIN_KEY}" and self.headers["X-WORKSPACE-ID"] == WORKSPACE:
            return None
        cookies = SimpleCookie(self.headers["Cookie"] or "")
        if "access_token" not in cookies or self.dify.expires:
            return "Token has expired."
        good = cookies["csrf_token"].value == self.headers["X-CSRF-Token"] == "csrf"
        return None if good and not self.dify.breaks_csrf else "CSRF token is missing or invalid."

    def _defaults(self, method: str, body: Json, query: Json) -> tuple[Any, ...]:
        if method == "GET":
            return 200, {"data": self.dify.defaults.get(query["model_type"])}
        for one in body["model_settings"]:
            provider = {"provider": one["provider"], "label": {"en_US": "OpenAI-API-compatible"}}
            self.dify.defaults[one["model_type"]] = {**one, "provider": provider}
        return 200, {"result": "success"}

    def _read(self, query: Json) -> tuple[Any, ...]:
        key = (query["model_type"], query["model"])
        current = self.dify.in_use.get(key)
        entry = self.dify.credentials.get(current or "", {})
        others = [
            {"credential_id": id, "credential_name": one["name"]}
            for id, one in self.dify.credentials.items()
            if (one["model_type"], one["model"]) == key
        ]
        return 200, {
            "credentials": masked(entry.get("credentials", {})),
            "current_credential_id": current,
            "current_credential_name": entry.get("name"),
            "load_balancing": {"enabled": False, "configs": []},
            "available_credentials": [] if self.dify.hides_others else others,
        }

    def _create(self, body: Json) -> tuple[Any, ...]:
        key = (body["model_type"], body["model"])
        if any(
            (one["model_type"], one["model"], one["name"]) == (*key, body["name"])
            for one in self.dify.credentials.values()
        ):
            return self._invalid(f"Model credential with name '{body['name']}' already exists for {body['model']}.")
        if said := self.dify.refusal(key[0], body["credentials"]):
            return self._invalid(said)
        id = str(uuid.uuid4())
        entry = {"model_type": key[0], "model": key[1], "name": body["name"]}
        self.dify.credentials[id] = {**entry, "credentials": self.dify.kept(key[0], body["credentials"])}
        self.dify.in_use.setdefault(key, id)
        return 201, {"result": "success"}

    def _update(self, body: Json) -> tuple[Any, ...]:
        entry = self.dify.credentials.get(body["credential_id"])
        if entry is None:
            return self._invalid("Credential record not found.")
        given = dict(body["credentials"])
        if given.get("api_key") == HIDDEN:
            given["api_key"] = entry["credentials"]["api_key"]
        if said := self.dify.refusal(entry["model_type"], given):
            return self._invalid(said)
        entry |= {"name": body["name"], "credentials": self.dify.kept(entry["model_type"], given)}
        return 200, {"result": "success"}

    def _invalid(self, message: str) -> tuple[Any, ...]:
        return 400, {"code": "invalid_param", "message": message, "status": 400}


@contextmanager
def serve(dify: FakeDify) -> Iterator[FakeDify]:
    """Serve it on loopback until the block ends; its `url` tells where."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("BoundHandler", (Handler,), {"dify": dify}))
    server.daemon_threads = True
    dify.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield dify
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
