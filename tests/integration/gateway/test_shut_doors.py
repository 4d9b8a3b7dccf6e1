"""Nothing that reaches a model is open without a key, and with one only what is listed: tried from another host."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.integration.gateway.allowed import allowed, reachable
from tests.integration.gateway.cases import MARK, framings, sizes, targets
from tests.integration.gateway.h2_cases import h2_cases
from tests.integration.gateway.lab_gateway import FETCH, LabGateway, Seen

pytestmark = [pytest.mark.integration, pytest.mark.serving]

METHODS = ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "TRACE", "PROPFIND"]
# What vLLM has, or once had, beside what its openapi.json tells; and what HAProxy may have of its own.
MORE_PATHS = [
    "/", "/v1", "/docs", "/docs/oauth2-redirect", "/redoc", "/openapi.json", "/server_info", "/sleep", "/wake_up",
    "/is_sleeping", "/reset_prefix_cache", "/collective_rpc", "/update_config", "/start_profile", "/v1/realtime",
    "/v1/audio/transcriptions", "/v1/load_lora_adapter", "/inference/v1/generate", "/cohere/v2/embed", "/debug/pprof",
    "/stats", "/stats;csv", "/haproxy?stats", "/servers", "/servers/", "/admin", "/.well-known/openid-configuration",
]  # fmt: skip
WRONG = "sk-wrong"


def open_rows(rows: list[list[Any]], shut: int) -> str:
    """Return the rows that are not shut, as a table to read; "" where there are none."""
    return "\n".join(" ".join(map(str, row)) for row in rows if row[3] != shut)


@pytest.fixture(scope="module")
def paths(gateway: LabGateway) -> list[str]:
    """Every route of every server's own openapi.json and those it does not tell, under every base that could be one."""
    routes = set(MORE_PATHS)
    for server in gateway.plan["servers"]:
        url = f"http://127.0.0.1:{server['instances'][0]['port']}/openapi.json"
        routes |= set(json.loads(gateway.host.read("python3", "-c", FETCH, url))["paths"])
    assert len(routes) > 40, routes
    names = [server["name"] for server in gateway.plan["servers"]]
    own = [f"/servers/{name}" for name in (*names, *(f"{name}@{gateway.host.name}" for name in names))]
    bases = ["", "/v1", "/v2", *own, *(f"{base}/v1" for base in own)]
    return sorted({base + route.replace("{response_id}", "resp_1") for base in bases for route in routes})


@pytest.fixture(scope="module")
def swept(gateway: LabGateway, paths: list[str]) -> tuple[list[list[Any]], list[list[Any]], Seen, Seen]:
    """Every method with every path: the answers without a right key and with one, and what reached the servers."""
    right = f"Authorization: Bearer {gateway.key}\r\n"
    shut = {"no key": "", "wrong key": f"Authorization: Bearer {WRONG}\r\n"}
    with gateway.watching_servers() as shut_seen:
        without = gateway.tool("doors", methods=METHODS, paths=paths, credentials=shut)
    with gateway.watching_servers() as seen:
        with_key = gateway.tool("doors", methods=METHODS, paths=paths, credentials={"right key": right})
    return without, with_key, shut_seen, seen


def test_without_a_right_key_nothing_is_open(swept: tuple[list[list[Any]], list[list[Any]], Seen, Seen]) -> None:
    without, _, seen, _ = swept
    assert len(without) > 10_000
    assert open_rows(without, 401) == ""
    assert seen.requests == []


def test_with_a_right_key_exactly_the_list_is_open(
    gateway: LabGateway, swept: tuple[list[list[Any]], list[list[Any]], Seen, Seen]
) -> None:
    _, with_key, _, seen = swept
    found = {(method, path) for method, path, _, status, *_ in with_key if status != 404}
    assert found == allowed(gateway.plan)
    assert {one[:2] for one in seen.requests} <= reachable(gateway.plan)


def test_refusals_have_openai_s_shape(swept: tuple[list[list[Any]], list[list[Any]], Seen, Seen]) -> None:
    without, with_key, *_ = swept
    refused = [row for row in without + with_key if row[3] in (401, 404) and row[0] != "HEAD"]
    assert [row for row in refused if not row[5]] == []
    assert {row[4] for row in refused} == {"invalid_api_key", "unknown_url"}


def test_a_key_opens_only_as_a_bearer_token(gateway: LabGateway) -> None:
    key, bearer = gateway.key, "Authorization: Bearer "
    digest = hashlib.sha256(key.encode()).hexdigest()
    tries = {
        "an empty field": "Authorization:\r\n",
        "no scheme": f"Authorization: {key}\r\n",
        "another scheme": f"Authorization: Basic {key}\r\n",
        "no key": f"{bearer}\r\n",
        "half of the key": f"{bearer}{key[:-1]}\r\n",
        "more than the key": f"{bearer}{key}x\r\n",
        "another case": f"{bearer}{key.swapcase()}\r\n",
        "the key and a word": f"{bearer}{key} x\r\n",
        "the key twice": f"{bearer}{key} {key}\r\n",
        "the key in quotes": f'{bearer}"{key}"\r\n',
        "the key in a list": f"{bearer}{WRONG}, Bearer {key}\r\n",
        "a right and a wrong field": f"{bearer}{key}\r\n{bearer}{WRONG}\r\n",
        "a wrong and a right field": f"{bearer}{WRONG}\r\n{bearer}{key}\r\n",
        "what is kept at rest": f"{bearer}{digest.upper()}\r\n",
        "what is kept at rest, small": f"{bearer}{digest}\r\n",
        "the key's name": f"{bearer}default\r\n",
        "another field": f"X-API-Key: {key}\r\napi-key: {key}\r\nCookie: Authorization={key}\r\n",
        "a proxy's field": f"Proxy-Authorization: Bearer {key}\r\n",
    }
    with gateway.watching_servers() as seen:
        rows = gateway.tool(
            "doors",
            methods=["GET", "POST"],
            paths=[*sorted(path for _, path in allowed(gateway.plan)), f"/rerank?api_key={key}"],
            credentials=tries,
        )
    assert open_rows(rows, 401) == ""
    assert seen.requests == []


def test_a_key_is_asked_for_with_each_request_of_a_connection(gateway: LabGateway) -> None:
    def ask(authorization: str) -> str:
        return f"GET /v1/models HTTP/1.1\r\nHost: {gateway.netloc}\r\n{authorization}\r\n"

    right = f"Authorization: Bearer {gateway.key}\r\n"
    heard = gateway.tool("raw", cases={"pipelined": [ask(right) + ask("") + ask(right) + ask("")]})["pipelined"]
    assert [answer["status"] for answer in heard["answers"]] == [200, 401, 200, 401]


@pytest.fixture(params=["no key", "wrong key", "right key"])
def authorization(gateway: LabGateway, request: pytest.FixtureRequest) -> str:
    """A header line, or none."""
    keys = {"no key": "", "wrong key": WRONG, "right key": gateway.key}
    key = keys[request.param]
    return f"Authorization: Bearer {key}\r\n" if key else ""


@pytest.fixture
def watched(gateway: LabGateway, authorization: str) -> Iterator[None]:
    """Judge, after a test, what reached the servers: nothing without the key, and with it only what is on the list."""
    with gateway.watching_servers() as seen:
        yield
    assert MARK not in seen.text, seen.text
    assert "Invalid HTTP request" not in seen.text, seen.text
    reached = {one[:2] for one in seen.requests}
    assert reached <= (reachable(gateway.plan) if gateway.key in authorization else set())


def open_answers(heard: dict[str, dict[str, Any]]) -> dict[str, list[int]]:
    """Return the cases that were answered with anything but a refusal."""
    statuses = {
        name: [answer["status"] for answer in one["answers"] if answer["status"] != 100] for name, one in heard.items()
    }
    return {name: each for name, each in statuses.items() if any(not 400 <= status < 500 for status in each)}


@pytest.mark.usefixtures("watched")
def test_no_way_of_writing_a_path_opens_it(gateway: LabGateway, authorization: str) -> None:
    cases = {
        f"{method} {name}": [
            f"{method} {target} HTTP/1.1\r\nHost: {gateway.netloc}\r\n{authorization}"
            + ("Content-Length: 2\r\n\r\n{}" if method == "POST" else "\r\n")
        ]
        for name, target in targets(gateway.netloc).items()
        for method in ("GET", "POST")
    }
    heard = gateway.tool("raw", cases=cases)
    assert open_answers(heard) == {}
    silent = [name for name, one in heard.items() if not one["answers"]]
    assert silent == []


@pytest.mark.usefixtures("watched")
def test_no_second_request_is_smuggled_in(gateway: LabGateway, authorization: str) -> None:
    heard = gateway.tool("raw", cases=framings(gateway.netloc, authorization))
    # With the key these are one proper request to what is open, and more bytes.
    proper = {"a body with GET", "an upgrade to HTTP/2", "an upgrade to a web socket", "wait for 100"}
    found = set(open_answers(heard))
    assert found <= (proper if gateway.key in authorization else set()), {name: heard[name] for name in found}


@pytest.mark.usefixtures("watched")
def test_http2_opens_nothing_either(gateway: LabGateway, authorization: str) -> None:
    key = authorization.removeprefix("Authorization: Bearer ").strip() or None
    cases = h2_cases(gateway.netloc, key)
    for name, target in targets(gateway.netloc).items():
        fields = [[":method", "POST"], [":scheme", "https"], [":authority", gateway.netloc], [":path", target]]
        cases[name] = {"fields": [*fields, *([["authorization", f"Bearer {key}"]] if key else [])]}
    heard = gateway.tool("h2", cases=cases)
    assert {name: one for name, one in heard.items() if one["status"] and not 400 <= one["status"] < 500} == {}


@pytest.mark.usefixtures("watched")
def test_what_is_too_large_is_refused_at_once(gateway: LabGateway, authorization: str) -> None:
    heard = gateway.tool("raw", cases=sizes(gateway.netloc, authorization))
    assert open_answers(heard) == {}
    wrong = {name: one for name, one in heard.items() if not one["answers"] or one["seconds"] > 3}
    assert wrong == {}, "no answer, or a late one"


def test_a_body_above_the_limit_is_told_so_before_it_is_sent(gateway: LabGateway) -> None:
    right = f"Authorization: Bearer {gateway.key}\r\n"
    heard = gateway.tool("raw", cases=sizes(gateway.netloc, right))
    told = [(answer["status"], answer["code"], answer["shaped"]) for answer in heard["a body of 65 MiB"]["answers"]]
    assert told == [(413, "request_too_large", True)]
    assert heard["a body of 65 MiB"]["sent"] < 16 << 20


def test_another_host_reaches_ssh_and_the_gateway_and_no_other_port(gateway: LabGateway) -> None:
    found = gateway.tool("ports", address=gateway.address, ports=[1, 65535])
    assert found["open"] == [22, gateway.port]
    direct = [instance["port"] for server in gateway.plan["servers"] for instance in server["instances"]]
    assert [port for port in direct if port in found["open"]] == []


def test_plain_http_and_old_tls_get_nothing_from_the_port(gateway: LabGateway) -> None:
    assert gateway.base_url.startswith("https://")
    found = gateway.tool("tls")
    assert found["plain"] == ""
    assert {name: one for name, one in found["versions"].items() if one} == {"TLSv1.2": True, "TLSv1.3": True}
    assert found["unknown authority"] == "refused by the client"
