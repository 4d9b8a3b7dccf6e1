"""Requests to one server. Whatever goes wrong becomes a finding with server, host and URL in it, never a traceback."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import requests

from vllm_fleet.verify.endpoint import Endpoint
from vllm_fleet.verify.outcome import Wrong, excerpt

CONNECT_TIMEOUT = 5.0  # seconds
ANSWER_TIMEOUT = 120.0  # seconds, for a whole answer


@dataclass(frozen=True)
class Stream:
    """The events of a streamed answer, and whether it ended with `[DONE]`."""

    chunks: tuple[Mapping[str, Any], ...]
    done: bool


class Client:
    """Sends requests to one endpoint; one thread at a time."""

    def __init__(self, endpoint: Endpoint, timeout: float = ANSWER_TIMEOUT) -> None:
        self._endpoint, self._timeout = endpoint, timeout
        self._session = requests.Session()
        # Neither a proxy meant for the internet nor a password of ~/.netrc belongs on the way to a model server.
        self._session.trust_env = False
        self._session.verify = os.environ.get("REQUESTS_CA_BUNDLE") or True
        if endpoint.api_key:
            self._session.headers["Authorization"] = f"Bearer {endpoint.api_key}"

    def get(self, path: str) -> Mapping[str, Any]:
        """The JSON object that `path` answers with."""
        return self._object("GET", path, self._send("GET", path))

    def post(self, path: str, body: Mapping[str, Any]) -> Mapping[str, Any]:
        """The JSON object that `path` answers `body` with, the model's name added to `body`."""
        return self._object("POST", path, self._send("POST", path, {"model": self._endpoint.model, **body}))

    def refusal(self, path: str, body: Mapping[str, Any]) -> tuple[int, str]:
        """HTTP status and text of the answer, whatever they are, to a request that should be refused."""
        response = self._send("POST", path, {"model": self._endpoint.model, **body})
        return response.status_code, response.text

    def stream(self, path: str, body: Mapping[str, Any]) -> Stream:
        """The server-sent events that `path` answers `body` with."""
        request = {"model": self._endpoint.model, **body, "stream": True, "stream_options": {"include_usage": True}}
        chunks: list[Mapping[str, Any]] = []
        try:
            with self._send("POST", path, request, stream=True) as response:
                self._require_ok("POST", path, response)
                for data in self._events(response):
                    if data == "[DONE]":
                        return Stream(tuple(chunks), done=True)
                    chunks.append(self._chunk(path, data))
        except requests.RequestException as error:
            raise self._unanswered("POST", path, error) from None
        return Stream(tuple(chunks), done=False)

    def close(self) -> None:
        """Give the connections back."""
        self._session.close()

    def where(self, method: str, path: str) -> str:
        """The request as messages name it."""
        return f"{method} {self._endpoint.base_url}{path} ({self._endpoint.name} on {self._endpoint.host})"

    def _send(
        self, method: str, path: str, body: Mapping[str, Any] | None = None, stream: bool = False
    ) -> requests.Response:
        try:
            return self._session.request(
                method,
                f"{self._endpoint.base_url}{path}",
                json=body,
                timeout=(CONNECT_TIMEOUT, self._timeout),
                stream=stream,
                allow_redirects=False,
            )
        except requests.RequestException as error:
            raise self._unanswered(method, path, error) from None

    def _events(self, response: requests.Response) -> Iterator[str]:
        deadline = time.monotonic() + self._timeout
        for line in response.iter_lines():
            if line.startswith(b"data:"):
                yield line.removeprefix(b"data:").decode("utf-8", "replace").strip()
            if time.monotonic() > deadline:
                raise requests.Timeout

    def _chunk(self, path: str, data: str) -> Mapping[str, Any]:
        try:
            chunk = json.loads(data)
        except ValueError:
            chunk = None
        if not isinstance(chunk, dict) or "error" in chunk:
            raise Wrong(
                "events that are JSON objects, without an error among them",
                f"the event {excerpt(data)} from {self.where('POST', path)}",
                f"the engine failed during the answer: {self._journal()}",
            )
        return chunk

    def _object(self, method: str, path: str, response: requests.Response) -> Mapping[str, Any]:
        self._require_ok(method, path, response)
        try:
            answer = response.json()
        except ValueError:
            answer = None
        if not isinstance(answer, dict):
            raise Wrong(
                "a JSON object",
                f"{excerpt(response.text) or 'an empty body'} from {self.where(method, path)}",
                "something else than vLLM listens there, such as a proxy or a log-in page: compare the port",
            )
        if answer.get("object") == "error" or answer.get("error"):
            raise Wrong(
                "an answer",
                f"HTTP 200 with an error in its body from {self.where(method, path)}: {excerpt(response.text)}",
                f"a proxy or a former vLLM that hides the error status: {self._journal()}",
            )
        return answer

    def _require_ok(self, method: str, path: str, response: requests.Response) -> None:
        if response.status_code == requests.codes.ok:
            return
        raise Wrong(
            "HTTP 200",
            f"HTTP {response.status_code} from {self.where(method, path)}: {excerpt(response.text)}",
            self._cause_of_status(response.status_code),
        )

    def _cause_of_status(self, status: int) -> str:
        match status:
            case 401 | 403:
                return "the API key that the verification was given is not the one the server was started with"
            case 404 | 405:
                return "the model is served under another name, or the server is of another kind and has no such path"
            case 400 | 422:
                return "the server's model or flags do not allow such a request; the answer says what it minds"
            case 503 | 429:
                return "the server is overloaded (--max-num-queued-reqs) or a proxy has no live server: try again later"
            case _ if status < 400:
                return "a proxy redirects instead of forwarding: base_url must name the server itself"
            case _:
                return f"the engine died or refuses to go on: {self._journal()}"

    def _unanswered(self, method: str, path: str, error: requests.RequestException) -> Wrong:
        where = self.where(method, path)
        if isinstance(error, requests.ConnectTimeout):
            got = f"no connection within {CONNECT_TIMEOUT:g} s: {where}"
            cause = f"the host is down or a firewall drops the packets: is {self._endpoint.host} reachable from here?"
        elif isinstance(error, requests.Timeout) or "timed out" in str(error).lower():
            got = f"no answer within {self._timeout:g} s: {where}"
            cause = f"the engine is frozen (/health stays green then) or overloaded: {self._journal()}"
        elif isinstance(error, requests.exceptions.SSLError):
            got = f"no TLS connection: {where}: {_root_cause(error)}"
            cause = "the certificate is of a private authority: name its file in REQUESTS_CA_BUNDLE"
        elif "refused" in str(error).lower():
            got = f"connection refused: {where}"
            cause = f"the server is not running, or on loopback only: `systemctl status {self._endpoint.unit}` there"
        else:
            got = f"no complete answer: {where}: {_root_cause(error)}"
            cause = f"the server ended meanwhile, or the name is not resolved: {self._journal()}"
        return Wrong("an answer", got, cause)

    def _journal(self) -> str:
        return f"`journalctl -u {self._endpoint.unit} -n 50` on {self._endpoint.host}"


def _root_cause(error: BaseException) -> str:
    """The innermost exception's words; requests and urllib3 wrap it several times."""
    while True:
        inner = error.__cause__ or error.__context__ or next((a for a in error.args if isinstance(a, Exception)), None)
        if inner is None:
            return excerpt(str(error) or type(error).__name__)
        error = inner
