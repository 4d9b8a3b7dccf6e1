"""A stub that answers as vLLM 0.32 was seen to answer, for what a real server cannot be made to do wrong on purpose.

A healthy stub knows the right answers of questions.yml. `Fault` rewrites what it sends; every fault is one function.
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
import random
import struct
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from vllm_fleet.verify.endpoint import Endpoint
from vllm_fleet.verify.questions import Questions, load_questions

Json = dict[str, Any]

QUESTIONS: Questions = load_questions()
DIMENSION = 64
MAX_MODEL_LEN = 2048
ROUTES = {
    "llm": {"/v1/chat/completions"},
    "embedding": {"/v1/embeddings", "/score", "/v1/score", "/rerank", "/v1/rerank"},
    "rerank": {"/classify", "/score", "/v1/score", "/rerank", "/v1/rerank"},
}


@dataclass(frozen=True)
class Answer:
    """An HTTP answer: JSON, or server-sent events where `events` is given."""

    body: Any = None
    status: int = 200
    events: tuple[str, ...] | None = None
    raw: bytes | None = None  # sent instead of `body`


# Path, request and healthy answer; gives what is really sent.
Fault = Callable[[str, Json, Answer], Answer]


def healthy(path: str, request: Json, answer: Answer) -> Answer:
    """No fault."""
    return answer


def error(status: int, message: str, kind: str = "BadRequestError") -> Answer:
    """A refusal in vLLM's form."""
    return Answer({"error": {"message": message, "type": kind, "param": None, "code": status}}, status)


class Stub:
    """The healthy answers of one kind of server."""

    def __init__(self, kind: str, model: str, rescore: Callable[[float], float]) -> None:
        self.kind, self.model, self.rescore = kind, model, rescore
        self.questions = QUESTIONS

    def models(self) -> Answer:
        """GET /v1/models."""
        entry = {"id": self.model, "object": "model", "owned_by": "vllm", "max_model_len": MAX_MODEL_LEN}
        return Answer({"object": "list", "data": [entry]})

    def answer(self, path: str, request: Json) -> Answer:
        """POST."""
        if path not in ROUTES[self.kind]:
            return Answer({"detail": "Not Found"}, 404)
        if request.get("model") != self.model:
            return error(404, f"The model `{request.get('model')}` does not exist.", "NotFoundError")
        match path.removeprefix("/v1"):
            case "/chat/completions":
                return self._stream(request) if request.get("stream") else self._chat(request)
            case "/embeddings":
                return self._embeddings(request)
            case "/classify":
                data = [{"index": i, "label": "LABEL_0", "probs": [0.5], "num_classes": 1} for i, _ in _each(request)]
                return self._list(data, request)
            case "/score":
                return self._score(request)
            case _:
                return self._rerank(request)

    def _list(self, data: list[Json], request: Json) -> Answer:
        tokens = len(json.dumps(request))
        usage = {"prompt_tokens": tokens, "total_tokens": tokens, "completion_tokens": 0}
        return Answer({"id": "stub", "object": "list", "model": self.model, "data": data, "usage": usage})

    def _message(self, request: Json) -> tuple[Json, str]:
        for tool in self.questions.tools:
            if request["messages"] == tool.messages and request.get("tools"):
                calls = [{"name": call.tool, "arguments": json.dumps(call.arguments)} for call in tool.calls]
                entries = [{"id": f"tool-{i}", "type": "function", "function": call} for i, call in enumerate(calls)]
                message: Json = {"role": "assistant", "content": None, "tool_calls": entries}
                return message, "tool_calls"
        for chat in self.questions.chat:
            if request["messages"] == chat.messages:
                text = chat.contains_any[0] if chat.json else f"It is {chat.contains_any[0]} 🙂."
                return {"role": "assistant", "content": text}, "stop"
        return {"role": "assistant", "content": "pong"}, "stop"

    def _usage(self, request: Json) -> Json:
        prompt = len(json.dumps(request["messages"]))
        return {"prompt_tokens": prompt, "completion_tokens": 4, "total_tokens": prompt + 4}

    def _chat(self, request: Json) -> Answer:
        message, reason = self._message(request)
        choice = {"index": 0, "message": message, "finish_reason": reason}
        return Answer(
            {
                "id": "chatcmpl-stub",
                "object": "chat.completion",
                "model": self.model,
                "choices": [choice],
                "usage": self._usage(request),
            }
        )

    def _stream(self, request: Json) -> Answer:
        message, reason = self._message(request)
        deltas: list[Json] = [{"role": "assistant", "content": ""}]
        if message["content"]:
            deltas += [{"content": letter} for letter in message["content"]]
        for index, call in enumerate(message.get("tool_calls", ())):
            name, arguments = call["function"]["name"], call["function"]["arguments"]
            head = {"id": call["id"], "type": "function", "index": index, "function": {"name": name}}
            parts = [head, *({"index": index, "function": {"arguments": part}} for part in arguments)]
            deltas += [{"content": None, "tool_calls": [part]} for part in parts]
        choices: list[list[Json]] = [[{"index": 0, "delta": delta, "finish_reason": None}] for delta in deltas]
        choices.append([{"index": 0, "delta": {}, "finish_reason": reason}])
        chunks: list[Json] = [
            {"object": "chat.completion.chunk", "model": self.model, "choices": one} for one in choices
        ]
        if (request.get("stream_options") or {}).get("include_usage"):
            chunks.append({**chunks[0], "choices": [], "usage": self._usage(request)})
        return Answer(events=(*(json.dumps(chunk) for chunk in chunks), "[DONE]"))

    def _embeddings(self, request: Json) -> Answer:
        data: list[Json] = []
        for index, text in _each(request):
            vector: Any = self._vector(text)
            if request.get("encoding_format") == "base64":
                vector = base64.b64encode(struct.pack(f"<{DIMENSION}f", *vector)).decode()
            data.append({"index": index, "object": "embedding", "embedding": vector})
        return self._list(data, request)

    def _vector(self, text: str) -> list[float]:
        """A direction per meaning: a paraphrase gets that of its text, turned a little."""
        meaning = next((one.text for one in self.questions.closer if text == one.paraphrase), text)
        raw = [a + 0.1 * b for a, b in zip(_direction(meaning), _direction(text), strict=True)]
        return [one / math.hypot(*raw) for one in raw]

    def _relevance(self, query: str, document: str) -> float:
        return self.rescore(self._right_relevance(query, document))

    def _right_relevance(self, query: str, document: str) -> float:
        for one in self.questions.ranking:
            if query == one.query and document in one.documents:
                index = one.documents.index(document)
                return 0.9 / 10 ** one.order.index(index) if index in one.order else 0.001
        return 0.99 if document == self.questions.guide_single.text_2 else 0.01

    def _score(self, request: Json) -> Answer:
        texts = request["text_2"] if isinstance(request["text_2"], list) else [request["text_2"]]
        found = [self._relevance(request["text_1"], text) for text in texts]
        return self._list([{"index": i, "object": "score", "score": one} for i, one in enumerate(found)], request)

    def _rerank(self, request: Json) -> Answer:
        results = [
            {
                "index": index,
                "document": {"text": text, "multi_modal": None},
                "relevance_score": self._relevance(request["query"], text),
            }
            for index, text in enumerate(request["documents"])
        ]
        results.sort(key=lambda one: -float(str(one["relevance_score"])))
        tokens = len(json.dumps(request))
        usage = {"prompt_tokens": tokens, "total_tokens": tokens}
        kept = results[: request.get("top_n") or len(results)]
        return Answer({"id": "rerank-stub", "model": self.model, "usage": usage, "results": kept})


def _each(request: Json) -> Iterator[tuple[int, str]]:
    texts = request["input"] if isinstance(request["input"], list) else [request["input"]]
    return enumerate(texts)


def _direction(text: str) -> list[float]:
    numbers = random.Random(hashlib.sha256(text.encode()).digest())
    return [numbers.gauss(0, 1) for _ in range(DIMENSION)]


def unchanged(score: float) -> float:
    """The reranker's right opinion."""
    return score


@contextmanager
def serving(
    kind: str,
    fault: Fault = healthy,
    *,
    really: str | None = None,
    rescore: Callable[[float], float] = unchanged,
    api_key: str | None = None,
    **declared: Any,
) -> Iterator[Endpoint]:
    """Serve a stub on a loopback port, and give the endpoint as it is declared.

    Args:
        kind: the declared kind.
        fault: rewrites the answers.
        really: the kind that is served, where that is another one.
        rescore: what a reranker's model makes of the right score.
        api_key: what the server demands under /v1.
        declared: other fields of the endpoint.
    """
    stub = Stub(really or kind, f"tiny-{kind}", rescore)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = -1  # head and body in one packet, or each answer waits 40 ms for an acknowledgement

        def do_GET(self) -> None:
            self._send("GET", {}, stub.models() if self.path == "/v1/models" else Answer({"detail": "Not Found"}, 404))

        def do_POST(self) -> None:
            request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            self._send("POST", request, stub.answer(self.path, request))

        def _send(self, method: str, request: Json, answer: Answer) -> None:
            if api_key and self.path.startswith("/v1") and self.headers["Authorization"] != f"Bearer {api_key}":
                answer = Answer({"error": "Unauthorized"}, 401)
            answer = fault(self.path, request, answer)
            if answer.events is not None:
                body = "".join(f"data: {event}\n\n" for event in answer.events).encode()
            else:
                body = json.dumps(answer.body).encode() if answer.raw is None else answer.raw
            self.send_response(answer.status)
            self.send_header("Content-Type", "application/json" if answer.events is None else "text/event-stream")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    fields: Mapping[str, Any] = {
        "name": kind,
        "host": "stub-host",
        "unit": f"vllm-{kind}.service",
        "kind": kind,
        "base_url": f"http://127.0.0.1:{server.server_port}",
        "model": f"tiny-{kind}",
        "dtype": "float16",
        "tensor_parallel_size": 1,
        "tool_calls": kind == "llm",
        "api_key": api_key,
        **declared,
    }
    try:
        yield Endpoint(**fields)
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
