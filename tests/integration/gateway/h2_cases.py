"""Requests in HTTP/2 that would become two, or other ones, if a gateway wrote them down as HTTP/1.1. Data only."""

from __future__ import annotations

from typing import Any

from tests.integration.gateway.cases import MARK

Fields = list[list[str]]


def h2_cases(host: str, key: str | None) -> dict[str, dict[str, Any]]:
    """Return the requests by what is wrong with them; ``host`` is host:port."""
    credentials: Fields = [["authorization", f"Bearer {key}"]] if key is not None else []
    hidden = f"GET /version?{MARK} HTTP/1.1\r\nHost: {host}\r\n\r\n"

    def ask(
        path: str = "/rerank",
        method: str = "POST",
        scheme: str = "https",
        authority: str = host,
        more: Fields | None = None,
    ) -> Fields:
        pseudo = [[":method", method], [":scheme", scheme], [":authority", authority], [":path", path]]
        return [*pseudo, *credentials, *(more or [])]

    def sent(fields: Fields, body: str = "", trailers: Fields | None = None) -> dict[str, Any]:
        return {"fields": fields, "body": body, "trailers": trailers or []}

    length = ["content-length", "2"]
    return {
        "a line end in the path": sent(ask(f"/rerank HTTP/1.1\r\n\r\n{hidden}")),
        "a line feed in the path": sent(ask(f"/rerank\nX: /version?{MARK}")),
        "a blank in the path": sent(ask(f"/version?{MARK} HTTP/1.1", "GET")),
        "a path without a slash": sent(ask(f"version?{MARK}", "GET")),
        "a path that is absolute": sent(ask(f"http://127.0.0.1:32806/version?{MARK}", "GET")),
        "a path that is a host": sent(ask(f"@127.0.0.1:32806/version?{MARK}", "GET")),
        "an empty path": sent(ask("", "GET")),
        "a path with a fragment": sent(ask(f"/version?{MARK}#/rerank", "GET")),
        "a nothing in the path": sent(ask(f"/rerank\x00/version?{MARK}")),
        "two paths": sent(ask(more=[[":path", f"/version?{MARK}"]])),
        "no path": sent([[":method", "GET"], [":scheme", "https"], [":authority", host], *credentials]),
        "a method that is a request": sent(ask(method=f"GET /version?{MARK} HTTP/1.1\r\nX: ")),
        "a method with a blank": sent(ask(method=f"GET /version?{MARK}")),
        "an empty method": sent(ask(method="")),
        "a scheme that is a request": sent(ask(scheme=f"https://x/version?{MARK} HTTP/1.1\r\nX: ")),
        "a scheme that is a path": sent(ask(scheme=f"http://127.0.0.1:32806/version?{MARK}")),
        "an authority with a line end": sent(ask(authority=f"{host}\r\n\r\n{hidden}")),
        "an authority with a path": sent(ask(authority=f"{host}/version?{MARK}")),
        "a host beside the authority": sent(ask(more=[["host", "127.0.0.1:32806"]])),
        "a line end in a value": sent(ask(more=[["x-a", f"b\r\n\r\n{hidden}"]])),
        "a carriage return in a value": sent(ask(more=[["x-a", "b\rcontent-length: 999"]])),
        "a nothing in a value": sent(ask(more=[["x-a", "b\x00c"], length]), "{}"),
        "a line end in a name": sent(ask(more=[[f"x-a: b\r\n\r\n{hidden}", "c"]])),
        "a colon in a name": sent(ask(more=[["content-length: 999\r\nx", "c"]])),
        "a blank in a name": sent(ask(more=[["content-length ", "999"], length]), "{}"),
        "an empty name": sent(ask(more=[["", "x"]])),
        "a name in capitals": sent(ask(more=[["Content-Length", "999"]])),
        "a coding": sent(ask(more=[["transfer-encoding", "chunked"]]), f"0\r\n\r\n{hidden}"),
        "a coding beside a length": sent(ask(more=[length, ["transfer-encoding", "chunked"]]), "{}"),
        "a connection's field": sent(ask(more=[["connection", "authorization"], length]), "{}"),
        "an upgrade": sent(ask(more=[["upgrade", "websocket"], length]), "{}"),
        "te that is not trailers": sent(ask(more=[["te", "chunked"], length]), "{}"),
        "more than the length says": sent(ask(more=[length]), f"{{}}{hidden}"),
        "less than the length says": sent(ask(more=[["content-length", "200"]]), "{}"),
        "a length and no body": sent(ask(more=[["content-length", "200"]])),
        "two lengths": sent(ask(more=[length, ["content-length", "200"]]), "{}"),
        "a length beyond 64 bits": sent(ask(more=[["content-length", "18446744073709551618"]]), "{}"),
        "no length": sent(ask(), "{}"),
        "a pseudo field after the others": sent(
            [[":method", "POST"], [":scheme", "https"], *credentials, [":path", f"/version?{MARK}"]]
        ),
        "an unknown pseudo field": sent(ask(more=[[":protocol", "websocket"]])),
        "a tunnel": sent([[":method", "CONNECT"], [":authority", "127.0.0.1:32806"], *credentials], hidden),
        "a tunnel for web sockets": sent(
            ask("/servers/rerank/v1/models", "CONNECT", more=[[":protocol", "websocket"]]), hidden
        ),
        "trailers with a length": sent(ask(more=[length]), "{}", [["content-length", "999"]]),
        "trailers with a key": sent(
            ask(f"/version?{MARK}", "GET"), "{}", [["authorization", "Bearer x"], [":path", "/rerank"]]
        ),
        "fields of 100 KiB": sent(ask(more=[["x-a", "b" * 102_400]])),
        "fields of 1 MiB": sent(ask(more=[[f"x-{number}", "b" * 1024] for number in range(1024)])),
    }
