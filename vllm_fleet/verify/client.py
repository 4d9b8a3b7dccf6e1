"""Requests to one server. Whatever goes wrong becomes a finding with server, host and URL in it, never a traceback."""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import requests

from vllm_fleet.verify import hints
from vllm_fleet.verify.endpoint import Endpoint
from vllm_fleet.verify.outcome import Exchange, Wrong, excerpt
from vllm_fleet.verify.raw import RawAnswer, RawConnection, authorities

CONNECT_TIMEOUT = 5.0  # seconds
ANSWER_TIMEOUT = 120.0  # seconds: for an answer to begin, and for a whole stream
SHOWN_LENGTH = 2000  # characters of a request or an answer that reports show
DONE = "[DONE]"
AT_ONCE = 64  # requests under way at the same time, at most
# By host and port. Servers behind one gateway share it and a key's limits: one load at a time is what is asked of it.
_LOADS: dict[tuple[str, int], threading.Lock] = {}


@dataclass(frozen=True)
class Stream:
    """The events of a streamed answer, the seconds after which each came, and whether it ended with `[DONE]`."""

    chunks: tuple[Mapping[str, Any], ...]
    times: tuple[float, ...]
    done: bool


@dataclass(frozen=True)
class Answer:
    """An HTTP answer, whatever its status."""

    status: int
    text: str


class Client:
    """Sends requests to one endpoint, and keeps what was said; one thread at a time.

    Attributes:
        exchanges: the requests sent so far and their answers, shortened.
    """

    def __init__(self, endpoint: Endpoint, timeout: float = ANSWER_TIMEOUT) -> None:
        self._endpoint, self._timeout = endpoint, timeout
        self.exchanges: list[Exchange] = []
        self._session = requests.Session()
        # Neither a proxy meant for the internet nor a password of ~/.netrc belongs on the way to a model server.
        self._session.trust_env = False
        self._session.verify = authorities(endpoint) or True
        if endpoint.api_key:
            self._session.headers["Authorization"] = f"Bearer {endpoint.api_key}"
        self._connection = RawConnection(endpoint, timeout)

    def get(self, path: str) -> Mapping[str, Any]:
        """The JSON object that `path` answers with."""
        return self._object("GET", path, self._send("GET", path))

    def post(self, path: str, body: Mapping[str, Any]) -> Mapping[str, Any]:
        """The JSON object that `path` answers `body` with, the model's name added to `body`."""
        return self._object("POST", path, self.try_post(path, body))

    def try_post(self, path: str, body: Mapping[str, Any], key: str | None = None) -> Answer:
        """The answer, whatever its status, to a request that may be refused.

        Args:
            path: where to.
            body: the request; the model's name is added.
            key: sent instead of the endpoint's own API key; an empty one sends none.
        """
        headers = None if key is None else {"Authorization": f"Bearer {key}" if key else None}
        return self._send("POST", path, {"model": self._endpoint.model, **body}, headers)

    def post_at_once(self, path: str, bodies: Sequence[Mapping[str, Any]]) -> list[tuple[Mapping[str, Any], float]]:
        """Answers to requests that are sent at the same moment, in order, each with the seconds it took.

        Of the exchanges only the first is kept.
        """

        def post(body: Mapping[str, Any]) -> tuple[Mapping[str, Any], float, list[Exchange]]:
            other = Client(self._endpoint, self._timeout)
            began = time.monotonic()
            try:
                return other.post(path, body), time.monotonic() - began, other.exchanges
            finally:
                other.close()

        turn = _LOADS.setdefault(self._endpoint.address, threading.Lock())
        with turn, ThreadPoolExecutor(min(len(bodies), AT_ONCE)) as pool:
            answers = list(pool.map(post, bodies))
        self.exchanges += answers[0][2]
        return [(answer, seconds) for answer, seconds, _ in answers]

    def stream(self, path: str, body: Mapping[str, Any]) -> Stream:
        """The server-sent events that `path` answers `body` with."""
        request = {"model": self._endpoint.model, **body, "stream": True, "stream_options": {"include_usage": True}}
        began, status = time.monotonic(), None
        events, chunks, times = list[str](), list[Mapping[str, Any]](), list[float]()
        try:
            with self._open("POST", path, request) as response:
                status = response.status_code
                if status != requests.codes.ok:
                    events.append(response.text)
                    self._require_ok("POST", path, Answer(status, events[0]))
                for line in self._in_time(response.iter_lines(), began):
                    if not line.startswith(b"data:"):
                        continue
                    events.append(line.removeprefix(b"data:").decode("utf-8", "replace").strip())
                    if events[-1] == DONE:
                        break
                    chunks.append(self._chunk(path, events[-1]))
                    times.append(time.monotonic() - began)
        except requests.RequestException as error:
            events.append(hints.root_cause(error))
            raise self._unanswered("POST", path, error) from None
        finally:
            self._keep("POST", path, request, status, "\n".join(events), began)
        return Stream(tuple(chunks), tuple(times), done=events[-1:] == [DONE])

    def raw(
        self,
        method: str,
        target: str,
        body: Mapping[str, Any] | None = None,
        headers: Mapping[str, str | None] | None = None,
    ) -> RawAnswer:
        """The answer, whatever its status, to a request whose target is sent as it is written.

        Args:
            method: of HTTP.
            target: the whole path; that of the endpoint's `base_url` is not put before it.
            body: sent as JSON, and nothing is added.
            headers: sent beside the API key, or in its place; one that is None is left out.
        """
        began = time.monotonic()
        try:
            answer = self._connection.send(method, target, body, headers or {})
        except (OSError, http.client.HTTPException) as error:
            self._keep(method, target, body, None, hints.root_cause(error), began)
            raise self._unanswered(method, target, error) from None
        self._keep(method, target, body, answer.status, answer.text, began)
        return answer

    def redacted(self, text: str) -> str:
        """`text` as it may be shown: servers and proxies repeat a refused key in their answers."""
        return text.replace(self._endpoint.api_key, "[API key]") if self._endpoint.api_key else text

    def excerpt(self, text: str) -> str:
        """The beginning of an answer as messages show it; half a key is a key, so it is taken out before cutting."""
        return excerpt(self.redacted(text))

    def close(self) -> None:
        """Give the connections back."""
        self._session.close()
        self._connection.close()

    def where(self, method: str, path: str) -> str:
        """The request as messages name it."""
        return f"{method} {self._endpoint.base_url}{path} ({self._endpoint.name} on {self._endpoint.host})"

    def _send(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        headers: Mapping[str, str | None] | None = None,
    ) -> Answer:
        began = time.monotonic()
        try:
            with self._open(method, path, body, headers) as response:
                answer = Answer(response.status_code, response.content.decode("utf-8", "replace"))
        except requests.RequestException as error:
            self._keep(method, path, body, None, hints.root_cause(error), began)
            raise self._unanswered(method, path, error) from None
        self._keep(method, path, body, answer.status, answer.text, began)
        return answer

    def _open(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None,
        headers: Mapping[str, str | None] | None = None,
    ) -> requests.Response:
        return self._session.request(
            method,
            f"{self._endpoint.base_url}{path}",
            json=body,
            headers=headers,
            timeout=(CONNECT_TIMEOUT, self._timeout),
            stream=True,
            allow_redirects=False,
        )

    def _in_time(self, lines: Iterator[bytes], began: float) -> Iterator[bytes]:
        """The lines of a stream; a server that sends a little now and then must end in time as well."""
        for line in lines:
            yield line
            if time.monotonic() - began > self._timeout:
                raise requests.Timeout

    def _keep(
        self, method: str, path: str, body: Mapping[str, Any] | None, status: int | None, answer: str, began: float
    ) -> None:
        request = "" if body is None else json.dumps(body, ensure_ascii=False)
        seconds = time.monotonic() - began
        self.exchanges.append(Exchange(method, path, self._shown(request), status, self._shown(answer), seconds))

    def _shown(self, text: str) -> str:
        shown = self.redacted(text)
        return shown if len(shown) <= SHOWN_LENGTH else f"{shown[:SHOWN_LENGTH]}... ({len(text)} characters)"

    def _chunk(self, path: str, data: str) -> Mapping[str, Any]:
        try:
            chunk = json.loads(data)
        except ValueError:
            chunk = None
        if not isinstance(chunk, dict) or "error" in chunk:
            raise Wrong(
                "events that are JSON objects, without an error among them",
                f"the event {self.excerpt(data)} from {self.where('POST', path)}",
                f"the engine failed during the answer: {hints.journal(self._endpoint)}",
            )
        return chunk

    def _object(self, method: str, path: str, given: Answer) -> Mapping[str, Any]:
        self._require_ok(method, path, given)
        try:
            answer = json.loads(given.text)
        except ValueError:
            answer = None
        if not isinstance(answer, dict):
            raise Wrong(
                "a JSON object",
                f"{self.excerpt(given.text) or 'an empty body'} from {self.where(method, path)}",
                "something else than vLLM listens there, such as a proxy or a log-in page: compare the port",
            )
        if answer.get("object") == "error" or answer.get("error"):
            raise Wrong(
                "an answer",
                f"HTTP 200 with an error in its body from {self.where(method, path)}: {self.excerpt(given.text)}",
                f"a proxy or a former vLLM that hides the error status: {hints.journal(self._endpoint)}",
            )
        return answer

    def _require_ok(self, method: str, path: str, answer: Answer) -> None:
        if answer.status == requests.codes.ok:
            return
        raise Wrong(
            "HTTP 200",
            f"HTTP {answer.status} from {self.where(method, path)}: {self.excerpt(answer.text)}",
            hints.of_status(self._endpoint, answer.status),
        )

    def _unanswered(self, method: str, path: str, error: Exception) -> Wrong:
        where = self.where(method, path)
        if isinstance(error, requests.ConnectTimeout):
            got = f"no connection within {CONNECT_TIMEOUT:g} s: {where}"
        elif hints.is_timeout(error):
            got = f"no answer within {self._timeout:g} s: {where}"
        elif hints.is_tls(error):
            got = f"no TLS connection: {where}: {hints.root_cause(error)}"
        elif hints.is_refusal(error):
            got = f"connection refused: {where}"
        else:
            got = f"no complete answer: {where}: {hints.root_cause(error)}"
        return Wrong("an answer", got, hints.of_silence(self._endpoint, error))
