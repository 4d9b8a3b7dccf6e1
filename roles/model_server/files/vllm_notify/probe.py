"""Ask one model server what its clients ask, and judge it by its answers."""

from __future__ import annotations

import contextlib
import http
import http.client
import json
from typing import Any

# So many HTTP 500 in a row are a dead engine; a busy one times out instead.
ERRORS_OF_A_DEAD_ENGINE = 3
PROBES: dict[str, tuple[str, dict[str, Any]]] = {
    "llm": ("/v1/chat/completions", {"messages": [{"role": "user", "content": "ping"}], "max_tokens": 1}),
    "embedding": ("/v1/embeddings", {"input": ["ping"]}),
    "rerank": ("/rerank", {"query": "ping", "documents": ["ping"]}),
}
# Counters of /metrics that move only when the engine has computed something.
PROGRESS = ("vllm:iteration_tokens_total_count", "vllm:prompt_tokens_total", "vllm:generation_tokens_total")


class RefusedError(ValueError):
    """The server answered, but not what was asked; ``engine_failed`` where it says that its engine did not."""

    def __init__(self, text: str, *, engine_failed: bool = False) -> None:
        super().__init__(text)
        self.engine_failed = engine_failed


class Client:
    """A client of one server. Time limits are in seconds."""

    def __init__(self, kind: str, address: str, port: int, model: str, key: str | None) -> None:
        self.path, body = PROBES[kind]
        self.body = json.dumps({"model": model, **body})
        self.address, self.port = address, port
        self.headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {key}"} if key else {})

    def ask(self, method: str, path: str, body: str | None, limit: float) -> tuple[int, str]:
        """Return status and text of an answer; OSError where nothing listens or no answer came in time."""
        connection = http.client.HTTPConnection(self.address, self.port, timeout=limit)
        try:
            connection.request(method, path, body, self.headers)
            response = connection.getresponse()
            return response.status, response.read().decode(errors="replace")
        except TimeoutError as error:
            raise TimeoutError(f"{method} {path}: no answer within {limit:.0f} s") from error
        except http.client.HTTPException as error:
            raise OSError(f"{method} {path}: {type(error).__name__} {error}") from error
        finally:
            connection.close()

    def probe(self, limit: float) -> None:
        """Ask one real, tiny question of the server's kind; OSError as in `ask`, RefusedError for a wrong answer."""
        status, text = self.ask("POST", self.path, self.body, limit)
        if status != http.HTTPStatus.OK:
            # 503 is what a full queue answers.
            failed = status >= http.HTTPStatus.INTERNAL_SERVER_ERROR and status != http.HTTPStatus.SERVICE_UNAVAILABLE
            raise RefusedError(f"POST {self.path} answered {status}: {text[:300]}", engine_failed=failed)
        with contextlib.suppress(ValueError, AttributeError):
            if any(json.loads(text).get(part) for part in ("choices", "data", "results")):
                return
        raise RefusedError(f"POST {self.path} answered 200 without a result: {text[:300]}")

    def progress(self, limit: float) -> float | None:
        """Return a number that changes whenever the engine computes; None where it cannot be read."""
        with contextlib.suppress(OSError, ValueError):
            status, text = self.ask("GET", "/metrics", None, limit)
            lines = [line for line in text.splitlines() if line.startswith(PROGRESS)]
            if status == http.HTTPStatus.OK and lines:
                return sum(float(line.rpartition(" ")[2]) for line in lines)
        return None


class Health:
    """Judges a serving server by its answers: a busy server is not a dead one."""

    def __init__(self) -> None:
        self.errors = 0
        self.progress: float | None = None

    def answered(self) -> None:
        """Note an answered probe."""
        self.errors, self.progress = 0, None

    def missed(self, progress: float | None, *, engine_failed: bool) -> bool:
        """Note a probe without its answer; return whether the engine has computed since the last such probe."""
        moved = None not in (progress, self.progress) and progress != self.progress
        self.progress = self.progress if progress is None else progress
        self.errors = self.errors + 1 if engine_failed and not moved else 0
        return moved

    @property
    def dead(self) -> bool:
        """Whether more waiting is of no use."""
        return self.errors >= ERRORS_OF_A_DEAD_ENGINE
