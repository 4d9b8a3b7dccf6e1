"""What a client may send that no well-meaning client sends: request targets, broken framing, sizes. Data only."""

from __future__ import annotations

from typing import Any

# How the smuggled part is recognised where it must never arrive: in the log of a model server.
MARK = "smuggled"


def targets(host: str) -> dict[str, str]:
    """Return request targets that try to reach what is shut, or what is open by another name; ``host`` is host:port."""
    long = "a" * 6000
    return {
        "two slashes": "//rerank",
        "three slashes": "///v1/rerank",
        "slashes inside": "/v1//rerank",
        "up and down": "/v1/../rerank",
        "up at the end": "/v1/rerank/..",
        "up from open to shut": "/v1/rerank/../../metrics",
        "up from a server's own": "/servers/rerank/v1/../../../metrics",
        "a dot": "/./rerank",
        "a dot at the end": "/rerank/.",
        "coded dots": "/v1/%2e%2e/rerank",
        "coded dots in capitals": "/v1/%2E%2E/metrics",
        "a coded slash": "/v1%2frerank",
        "a coded slash in capitals": "/v1%2Frerank",
        "a coded letter": "/%72erank",
        "coded twice": "/%2572erank",
        "a coded question mark": "/rerank%3fx",
        "a coded nothing": "/rerank%00",
        "a coded nothing inside": "/metrics%00/rerank",
        "a coded line end": "/rerank%0d%0aX:%20y",
        "capitals": "/RERANK",
        "capitals in part": "/V1/Rerank",
        "a slash at the end": "/rerank/",
        "slashes at the end": "/v1/rerank//",
        "a parameter": "/rerank;x=1",
        "a parameter inside": "/v1;x/rerank",
        "a query": "/metrics?/rerank",
        "a query that is a path": "/metrics?x=/v1/rerank",
        "a fragment": "/metrics#/rerank",
        "a fragment after the open": "/rerank#/metrics",
        "a backslash": "\\rerank",
        "a backslash inside": "/v1\\rerank",
        "a tab": "/rerank\t",
        "a nothing": "/rerank\x00",
        "a high byte": "/rerank\xff",
        "overlong dots": "/v1/\xc0\xae\xc0\xae/metrics",
        "no slash": "rerank",
        "a star": "*",
        "nothing at all": "",
        "absolute, own host": f"https://{host}/metrics",
        "absolute, own host, open path": f"https://{host}/rerank",
        "absolute, foreign host": "http://127.0.0.1:32806/metrics",
        "absolute, foreign host, open path": "http://127.0.0.1:32806/rerank",
        "absolute with a name and password": "http://a:b@127.0.0.1:32806/metrics",
        "absolute, unknown scheme": "file:///metrics",
        "absolute without a path": f"https://{host}",
        "an authority": "127.0.0.1:32806",
        "another server's path": "/servers/embedding/v1/rerank",
        "an unknown server": "/servers/nobody/v1/rerank",
        "a server's operations": "/servers/rerank/metrics",
        "a server's operations under v1": "/servers/rerank/v1/metrics",
        "a server by a coded name": "/servers/%72erank/v1/rerank",
        "a server with a dot": "/servers/./rerank/v1/rerank",
        "a server on an unknown host": "/servers/rerank@nowhere/v1/rerank",
        "a long path": f"/{long}",
        "a long query": f"/metrics?{long}",
    }


def framings(host: str, authorization: str) -> dict[str, list[str]]:
    """Return byte streams in which a proxy and a server may see different requests.

    ``authorization`` is a header line with its CRLF, or empty. Wherever a second request hides, it asks for a path that
    is shut, with ``MARK`` in it.
    """
    hidden = f"GET /version?{MARK} HTTP/1.1\r\nHost: {host}\r\n{authorization}\r\n"
    body = "{}"
    chunked = f"{len(body):x}\r\n{body}\r\n0\r\n\r\n"

    def post(headers: str, content: str, version: str = "HTTP/1.1", line_end: str = "\r\n") -> list[str]:
        head = f"POST /rerank {version}\r\nHost: {host}\r\nContent-Type: application/json\r\n{authorization}"
        return [head.replace("\r\n", line_end) + headers + line_end + content]

    get = f"GET /servers/rerank/v1/models HTTP/1.1\r\nHost: {host}\r\n{authorization}"
    length = f"Content-Length: {len(body)}\r\n"
    with_hidden = f"Content-Length: {len(body) + len(hidden)}\r\n"
    te = "Transfer-Encoding: chunked\r\n"
    return {
        "the same length twice": post(length + length, body + hidden),
        "two lengths": post(length + with_hidden, body + hidden),
        "two lengths, the long one first": post(with_hidden + length, body + hidden),
        "two lengths on one line": post(f"Content-Length: {len(body)}, {len(body) + len(hidden)}\r\n", body + hidden),
        "the same length twice on one line": post(f"Content-Length: {len(body)}, {len(body)}\r\n", body + hidden),
        "a length with a plus": post(f"Content-Length: +{len(body)}\r\n", body + hidden),
        "a negative length": post("Content-Length: -1\r\n", body + hidden),
        "a hexadecimal length": post("Content-Length: 0x2\r\n", body + hidden),
        "an empty length": post("Content-Length: \r\n", body + hidden),
        "a length that is a word": post("Content-Length: two\r\n", body + hidden),
        "a length beyond 64 bits": post("Content-Length: 18446744073709551618\r\n", body + hidden),
        "a length with an underscore": post(f"Content_Length: {len(hidden)}\r\n{length}", body + hidden),
        "a blank before the colon": post(f"Content-Length : {len(body) + len(hidden)}\r\n{length}", body + hidden),
        "length and chunks": post(with_hidden + te, chunked + hidden),
        "chunks and length": post(te + length, chunked + hidden),
        "chunks without a length": post(te, chunked + hidden),
        "chunks of HTTP/1.0": post(te, chunked + hidden, version="HTTP/1.0"),
        "an unknown coding": post("Transfer-Encoding: xchunked\r\n" + length, body + hidden),
        "an unknown coding before chunked": post("Transfer-Encoding: xchunked, chunked\r\n", chunked + hidden),
        "chunked, then identity": post("Transfer-Encoding: chunked, identity\r\n" + length, chunked + hidden),
        "identity": post("Transfer-Encoding: identity\r\n" + length, body + hidden),
        "a coding twice": post(te + "Transfer-Encoding: x\r\n" + length, chunked + hidden),
        "a coding with a blank": post("Transfer-Encoding : chunked\r\n" + length, chunked + hidden),
        "a coding with a tab": post("Transfer-Encoding:\tchunked\r\n" + length, chunked + hidden),
        "a coding with a vertical tab": post("Transfer-Encoding: \x0bchunked\r\n" + length, chunked + hidden),
        "a coding in quotes": post('Transfer-Encoding: "chunked"\r\n' + length, chunked + hidden),
        "a coding in capitals": post("TRANSFER-ENCODING: CHUNKED\r\n" + length, chunked + hidden),
        "a coding with an underscore": post("Transfer_Encoding: chunked\r\n" + length, chunked + hidden),
        "a coding on a folded line": post("Transfer-Encoding:\r\n chunked\r\n" + length, chunked + hidden),
        "a folded line": post(f"X-A: b\r\n Content-Length: 999\r\n{length}", body + hidden),
        "a folded first line": post(" X-A: b\r\n" + length, body + hidden),
        "a header without a colon": post("nonsense\r\n" + length, body + hidden),
        "a header without a name": post(": x\r\n" + length, body + hidden),
        "a nothing in a header": post("X-A: b\x00c\r\n" + length, body + hidden),
        "a lone carriage return": post(f"X-A: b\rContent-Length: 999\r\n{length}", body + hidden),
        "a lone line feed": post(f"X-A: b\nX-B: c\r\n{length}", body + hidden),
        "lines without carriage returns": post(f"Content-Length: {len(body)}\n", body + hidden, line_end="\n"),
        "two hosts": post(f"Host: 127.0.0.1\r\n{length}", body + hidden),
        "no host": [f"POST /rerank HTTP/1.1\r\n{authorization}{length}\r\n{body}{hidden}"],
        "a chunk's size too large": post(te, f"ffffffffffffffff1\r\n{body}\r\n0\r\n\r\n{hidden}"),
        "a chunk's size with a sign": post(te, f"-2\r\n{body}\r\n0\r\n\r\n{hidden}"),
        "a chunk's extension": post(te, f"2;a=\r\n{body}\r\n0\r\n\r\n{hidden}"),
        "a chunk's extension with a line feed": post(te, f"2;a\n{body}\r\n0\r\n\r\n{hidden}"),
        "a chunk's end missing": post(te, f"2\r\n{body}0\r\n\r\n{hidden}"),
        "a trailer": post(te, f"2\r\n{body}\r\n0\r\nContent-Length: 99\r\n\r\n{hidden}"),
        "blanks in the request line": [f"POST /rerank /version?{MARK} HTTP/1.1\r\nHost: {host}\r\n{authorization}\r\n"],
        "two blanks": [f"GET  /version?{MARK}  HTTP/1.1\r\nHost: {host}\r\n{authorization}\r\n"],
        "a tab for a blank": [f"GET\t/version?{MARK}\tHTTP/1.1\r\nHost: {host}\r\n{authorization}\r\n"],
        "a method in small letters": [f"post /rerank HTTP/1.1\r\nHost: {host}\r\n{authorization}{length}\r\n{body}"],
        "another method by header": post(
            f"X-HTTP-Method-Override: GET\r\nX-Original-URL: /version?{MARK}\r\n{length}", body
        ),
        "another path by header": post(
            f"X-Rewrite-URL: /version?{MARK}\r\nX-Forwarded-Prefix: /version\r\n{length}", body
        ),
        "no version": [f"GET /version?{MARK}\r\n\r\n"],
        "HTTP/0.9 with headers": [f"GET /version?{MARK}\r\nHost: {host}\r\n{authorization}\r\n"],
        "HTTP/1.2": [f"GET /version?{MARK} HTTP/1.2\r\nHost: {host}\r\n{authorization}\r\n"],
        "HTTP/3.0": [f"GET /version?{MARK} HTTP/3.0\r\nHost: {host}\r\n{authorization}\r\n"],
        "HTTP/1.1 with a tail": [f"GET /version?{MARK} HTTP/1.1x\r\nHost: {host}\r\n{authorization}\r\n"],
        "the preface of HTTP/2": ["PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"],
        "a second request to a shut path": post(length, body + hidden),
        "a second request to an operation by its own name": post(
            length, f"{body}GET /metrics?{MARK} HTTP/1.1\r\nHost: {host}\r\n{authorization}\r\n"
        ),
        "a body with GET": [f"{get}Content-Length: {len(hidden)}\r\n\r\n{hidden}"],
        "an upgrade to HTTP/2": [
            f"{get}Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n"
            f"HTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA\r\n\r\n{hidden}"
        ],
        "an upgrade to a web socket": [
            f"{get}Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
            f"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n{hidden}"
        ],
        "a tunnel": [f"CONNECT 127.0.0.1:32806 HTTP/1.1\r\nHost: 127.0.0.1:32806\r\n{authorization}\r\n{hidden}"],
        "the connection names the key": post(f"Connection: close, authorization\r\n{length}", body + hidden),
        "wait for 100": post("Expect: 100-continue\r\n" + length, body + hidden),
        "wait for something else": post("Expect: 200-ok\r\n" + length, body + hidden),
    }


def sizes(host: str, authorization: str) -> dict[str, list[Any]]:
    """Return requests that are too large, as pieces for tools/raw.py; ``authorization`` as for `framings`."""
    get = f"GET /v1/models HTTP/1.1\r\nHost: {host}\r\n{authorization}"
    post = f"POST /rerank HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n{authorization}"
    mib = 1 << 20
    return {
        "a header of 200 KiB": [f"{get}X-A: ", ["a" * 1024, 200], "\r\n\r\n"],
        "1,000 headers": [get, ["X-A: b\r\n", 1000], "\r\n"],
        "a target of 200 KiB": ["GET /", ["a" * 1024, 200], f" HTTP/1.1\r\nHost: {host}\r\n{authorization}\r\n"],
        "a header without an end": [f"{get}X-A: ", ["a" * 1024, 4096]],
        "a method of 200 KiB": [["A" * 1024, 200], f" / HTTP/1.1\r\nHost: {host}\r\n\r\n"],
        "blank lines": [["\r\n", 200_000], get, "\r\n"],
        "a body of 65 MiB": [f"{post}Content-Length: {65 * mib}\r\n\r\n", 1, ["a" * 1024, 65 * 1024]],
        "a length of 2^64 - 1": [f"{post}Content-Length: 18446744073709551615\r\n\r\n", 1, ["a" * 1024, 1024]],
        "a length beyond 64 bits": [f"{post}Content-Length: 18446744073709551618\r\n\r\n", "{}"],
        "a length with many zeros": [f"{post}Content-Length: {2:060d}\r\n\r\n", "{}"],
        "a body of 65 MiB in chunks": [
            f"{post}Transfer-Encoding: chunked\r\n\r\n",
            1,
            ["400\r\n" + "a" * 1024 + "\r\n", 65 * 1024],
        ],
    }
