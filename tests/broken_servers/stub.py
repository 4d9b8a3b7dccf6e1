"""A stub that answers as vLLM 0.32 was seen to answer, for what a real server cannot be made to do wrong on purpose.

A healthy stub knows the right answers of questions.yml. `Fault` rewrites what it sends; every fault is one function.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import math
import random
import struct
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from vllm_fleet.verify.endpoint import Endpoint
from vllm_fleet.verify.questions import Questions, load_questions

Json = dict[str, Any]

QUESTIONS: Questions = load_questions()
DIMENSION = 64
MAX_MODEL_LEN = 1024
API_KEY = "key-of-the-stub"
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
    pause: float = 0  # seconds before the answer, or before each event


# Path, request and healthy answer; gives what is really sent.
Fault = Callable[[str, Json, Answer], Answer]
# Request and right text; gives what the model says instead.
Says = Callable[[Json, str], str]


def healthy(path: str, request: Json, answer: Answer) -> Answer:
    """No fault."""
    return answer


def error(status: int, message: str, kind: str = "BadRequestError") -> Answer:
    """A refusal in vLLM's form."""
    return Answer({"error": {"message": message, "type": kind, "param": None, "code": status}}, status)


class Stub:
    """The healthy answers of one kind of server."""

    def __init__(self, kind: str, model: str, says: Says, rescore: Callable[[float], float]) -> None:
        self.kind, self.model, self.says, self.rescore = kind, model, says, rescore
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
        name = path.removeprefix("/v1")
        if problem := _malformed(name, request):
            return error(400, problem)
        if (longest := max(_lengths(name, request), default=0)) > MAX_MODEL_LEN:
            message = f"This model's maximum context length is {MAX_MODEL_LEN} tokens. However, you have {longest}."
            return Answer(error(400, message).body, 400)
        match name:
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
        usage = {**_pooling_usage("/embeddings" if "input" in request else "/score", request), "completion_tokens": 0}
        return Answer({"id": "stub", "object": "list", "model": self.model, "data": data, "usage": usage})

    def _message(self, request: Json) -> tuple[Json, str, int]:
        """The message, its finish_reason and its number of tokens."""
        for tool in self.questions.tools:
            if request["messages"] == tool.messages and request.get("tools"):
                calls = [{"name": call.tool, "arguments": json.dumps(call.arguments)} for call in tool.calls]
                entries = [{"id": f"tool-{i}", "type": "function", "function": call} for i, call in enumerate(calls)]
                return {"role": "assistant", "content": None, "tool_calls": entries}, "tool_calls", 9
        limit = request.get("max_tokens", MAX_MODEL_LEN)
        text = self.says(request, self._text(request))
        if request.get("ignore_eos") or limit == 1:
            return {"role": "assistant", "content": text}, "length", limit
        return {"role": "assistant", "content": text}, "stop", 4

    def _text(self, request: Json) -> str:
        schema = (request.get("response_format") or {}).get("json_schema", {}).get("schema", {})
        if "enum" in schema:
            return json.dumps(schema["enum"][0])
        for chat in self.questions.chat:
            if request["messages"] == chat.messages:
                return chat.contains_any[0] if chat.json else f"It is {chat.contains_any[0]} 🙂."
        return "pong"

    def _usage(self, request: Json, completion: int) -> Json:
        prompt = _lengths("/chat/completions", {**request, "max_tokens": 0})[0]
        return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}

    def _chat(self, request: Json) -> Answer:
        message, reason, tokens = self._message(request)
        choice = {"index": 0, "message": message, "finish_reason": reason}
        return Answer(
            {
                "id": "chatcmpl-stub",
                "object": "chat.completion",
                "model": self.model,
                "choices": [choice],
                "usage": self._usage(request, tokens),
            }
        )

    def _stream(self, request: Json) -> Answer:
        message, reason, tokens = self._message(request)
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
            chunks.append({**chunks[0], "choices": [], "usage": self._usage(request, tokens)})
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
        found = [self._relevance(request["text_1"], text) for text in _texts(request["text_2"])]
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
        kept = results[: request.get("top_n") or len(results)]
        usage = _pooling_usage("/rerank", request)
        return Answer({"id": "rerank-stub", "model": self.model, "usage": usage, "results": kept})


def _malformed(path: str, request: Json) -> str:
    """What is wrong with a request, if anything."""
    match path:
        case "/chat/completions":
            schema = (request.get("response_format") or {}).get("json_schema", {}).get("schema", {})
            if not isinstance(request["messages"], list) or not request["messages"]:
                return "messages must be a list with entries"
            return "unknown type in the JSON schema" if schema.get("type") == "no-such-type" else ""
        case "/embeddings" | "/classify":
            return "" if request["input"] and isinstance(request["input"], str | list) else "input is empty or no text"
        case "/rerank":
            return "" if request.get("documents") else "documents must be a list with entries"
    return ""


def _lengths(path: str, request: Json) -> list[int]:
    """Tokens of each input of a request, with what is to be generated: words, and a few around them."""
    match path:
        case "/chat/completions":
            words = sum(len(_words(one["content"])) for one in request["messages"])
            return [words + 5 + (request.get("max_tokens") or 1)]
        case "/embeddings" | "/classify":
            return [len(_words(text)) + 2 for _, text in _each(request) if "truncate_prompt_tokens" not in request]
        case "/score":
            query, texts = request["text_1"], _texts(request["text_2"])
        case _:
            query, texts = request["query"], request["documents"]
    return [len(_words(query)) + len(_words(text)) + 4 for text in texts]


def _pooling_usage(path: str, request: Json) -> Json:
    tokens = sum(_lengths(path, {key: value for key, value in request.items() if key != "truncate_prompt_tokens"}))
    return {"prompt_tokens": tokens, "total_tokens": tokens}


def _words(text: str) -> list[str]:
    return text.split()


def _texts(value: str | list[str]) -> list[str]:
    return value if isinstance(value, list) else [value]


def _each(request: Json) -> Iterator[tuple[int, str]]:
    return enumerate(_texts(request["input"]))


def _direction(text: str) -> list[float]:
    numbers = random.Random(hashlib.sha256(text.encode()).digest())
    return [numbers.gauss(0, 1) for _ in range(DIMENSION)]


def unchanged(score: float) -> float:
    """The reranker's right opinion."""
    return score


def right(request: Json, text: str) -> str:
    """The language model's right answer."""
    return text


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128  # the verification opens many connections at once

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exception(), ConnectionError):  # nobody waits for a slow answer any more
            super().handle_error(request, client_address)


@contextlib.contextmanager
def serving(
    kind: str,
    fault: Fault = healthy,
    *,
    really: str | None = None,
    says: Says = right,
    rescore: Callable[[float], float] = unchanged,
    demands: str | None = API_KEY,
    **declared: Any,
) -> Iterator[Endpoint]:
    """Serve a stub on a loopback port, and give the endpoint as it is declared.

    Args:
        kind: the declared kind.
        fault: rewrites the answers.
        really: the kind that is served, where that is another one.
        says: what a language model makes of the right text.
        rescore: what a reranker's model makes of the right score.
        demands: the API key that the server demands under /v1, and that is declared unless `declared` says otherwise.
        declared: other fields of the endpoint.
    """
    stub = Stub(really or kind, f"tiny-{kind}", says, rescore)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = -1  # head and body in one packet, or each answer waits 40 ms for an acknowledgement

        def do_GET(self) -> None:
            self._send({}, lambda: stub.models() if self.path == "/v1/models" else Answer({"detail": "Not Found"}, 404))

        def do_POST(self) -> None:
            request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            self._send(request, lambda: stub.answer(self.path, request))

        def _send(self, request: Json, right_answer: Callable[[], Answer]) -> None:
            guarded = demands and self.path.startswith("/v1") and self.headers["Authorization"] != f"Bearer {demands}"
            answer = fault(self.path, request, Answer({"error": "Unauthorized"}, 401) if guarded else right_answer())
            if answer.events is not None:
                self._send_events(answer)
                return
            time.sleep(answer.pause)
            body = json.dumps(answer.body).encode() if answer.raw is None else answer.raw
            self.send_response(answer.status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def _send_events(self, answer: Answer) -> None:
            self.send_response(answer.status)
            self.send_header("Content-Type", "text/event-stream")
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            for event in answer.events or ():
                if answer.pause:
                    self.wfile.flush()
                    time.sleep(answer.pause)
                part = f"data: {event}\n\n".encode()
                self.wfile.write(f"{len(part):x}\r\n".encode() + part + b"\r\n")
            self.wfile.write(b"0\r\n\r\n")

        def log_message(self, *_: object) -> None:
            """Nothing."""

    server = _Server(("127.0.0.1", 0), Handler)
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
        "max_model_len": MAX_MODEL_LEN,
        "tool_calls": kind == "llm",
        "api_key": demands,
        **declared,
    }
    try:
        yield Endpoint(**fields)
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
