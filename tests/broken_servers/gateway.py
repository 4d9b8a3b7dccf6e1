"""Gateways that are wrong in one way."""

from __future__ import annotations

import hashlib
import json
import posixpath
import re
from dataclasses import dataclass, replace
from unittest.mock import patch
from urllib.parse import unquote

from tests.broken_servers import stub_gateway
from tests.broken_servers.broken import Broken
from tests.broken_servers.stub import MAX_MODEL_LEN, QUESTIONS
from tests.broken_servers.stub_gateway import (
    KEY,
    SHARED,
    Asked,
    Fault,
    Said,
    authorized,
    certificate,
    passed_on,
    refusal,
    serving_gateway,
)
from vllm_fleet.verify import raw
from vllm_fleet.verify.endpoint import GATEWAY
from vllm_fleet.verify.run import ServerResult, verify_server


@dataclass(frozen=True)
class BrokenGateway(Broken):
    """A gateway that is wrong in one way.

    Attributes:
        wrongly: rewrites its answers.
        encrypted: whether it speaks TLS; where that is not the point, plain HTTP takes half the time.
        certified: the address in its certificate.
        takes_both: whether it speaks plain HTTP beside TLS.
        ports_open: whether the servers' own ports are open, to a machine that is none of theirs.
    """

    wrongly: Fault = stub_gateway.healthy
    encrypted: bool = False
    certified: str = "127.0.0.1"
    takes_both: bool = False
    ports_open: bool = False

    def verify(self) -> ServerResult:
        """Serve it and verify it."""
        serving = serving_gateway(
            self.wrongly,
            encrypted=self.encrypted,
            certified=self.certified,
            takes_both=self.takes_both,
            ports_open=self.ports_open,
            **self.declared,
        )
        with serving as endpoint, patch.object(raw, "is_own", lambda host: not self.ports_open):
            return verify_server(endpoint, QUESTIONS, self.timeout)


def _has_key(asked: Asked) -> bool:
    return asked.authorization == f"Bearer {KEY}"


def _forget_the_reranker(asked: Asked, said: Said) -> Said:
    if said.status == 200 and asked.path == "/v1/models":
        return replace(said, body={**said.body, "data": said.body["data"][:-1]})
    return said


def _list_another_length(asked: Asked, said: Said) -> Said:
    if said.status == 200 and asked.path == "/v1/models":
        data = [{**one, "max_model_len": 2 * MAX_MODEL_LEN} for one in said.body["data"]]
        return replace(said, body={**said.body, "data": data})
    return said


def _lead_the_coder_s_requests_astray(asked: Asked, said: Said) -> Said:
    if said.status == 200 and asked.body.get("model") == "tiny-coder":
        return passed_on({"model": "tiny-llm"})
    return said


def _have_no_live_reranker(asked: Asked, said: Said) -> Said:
    if said.status == 200 and asked.body.get("model") == "tiny-rerank":
        return refusal(503, "no_server", "No model server runs or is free for this request. Try again later.")
    return said


def _know_no_v2(asked: Asked, said: Said) -> Said:
    if said.status == 200 and asked.path.endswith("/v2/rerank"):
        return refusal(404, "unknown_url", "There is nothing here.")
    return said


def _look_no_further(asked: Asked, said: Said) -> Said:
    shared = asked.path in SHARED["llm"] and len(json.dumps(asked.body)) > 128 << 10
    return refusal(413, "model_not_seen", "The model is not named in the first 126 KiB.") if shared else said


def _name_no_models(asked: Asked, said: Said) -> Said:
    if "Known:" in str(said.body):
        return refusal(404, "model_not_found", "There is no such model here.")
    return said


def _guard_only_v1(asked: Asked, said: Said) -> Said:
    if said.status == 401 and asked.method == "POST" and asked.path in ("/rerank", "/score"):
        return authorized(asked, asked.path)
    return said


def _look_for_the_path_before_the_key(asked: Asked, said: Said) -> Said:
    if said.status == 401 and (found := authorized(asked, asked.path)).status == 404:
        return found
    return said


def _take_the_hash_for_the_key(asked: Asked, said: Said) -> Said:
    if asked.authorization == f"Bearer {hashlib.sha256(KEY.encode()).hexdigest().upper()}":
        return authorized(asked, asked.path)
    return said


def _show_metrics(asked: Asked, said: Said) -> Said:
    return passed_on({"metrics": 1}) if _has_key(asked) and asked.target == "/metrics" else said


def _pass_on_all_of_a_server(asked: Asked, said: Said) -> Said:
    if _has_key(asked) and re.match(r"/servers/llm/(detokenize|collective_rpc)$", asked.path):
        return passed_on({"tokens": [1]})
    return said


def _reading(read: stub_gateway.Callable[[str], str]) -> Fault:
    def fault(asked: Asked, said: Said) -> Said:
        return authorized(asked, read(asked.path)) if said.status == 404 and _has_key(asked) else said

    return fault


def _without_dots(path: str) -> str:
    return "/" + posixpath.normpath(path).lstrip("/")


def _pass_on_any_method(asked: Asked, said: Said) -> Said:
    if said.status == 404 and asked.method != "POST" and asked.path == "/v1/embeddings":
        return passed_on({"detail": "Method Not Allowed"}, 405)
    return said


def _say_no_in_html(asked: Asked, said: Said) -> Said:
    return replace(said, text="<html>401 Unauthorized</html>") if said.status == 401 else said


def _use_one_id_for_all(asked: Asked, said: Said) -> Said:
    if "error" not in said.body or "request_id" not in said.body["error"]:
        return said
    return Said(said.status, {"error": {**said.body["error"], "request_id": "1"}}, {"x-request-id": "1"})


def _wait_for_any_body(asked: Asked, said: Said) -> Said:
    return passed_on({"model": "tiny-llm"}) if said.status == 411 else said


def _broken(id: str, wrong: str, fails: str, message: str, **how: object) -> BrokenGateway:
    return BrokenGateway(id=id, wrong=wrong, kind=GATEWAY, fails=tuple(fails.split()), message=message, **how)  # type: ignore[arg-type]


BROKEN = [
    _broken(
        "gateway_certificate_of_another_address",
        "its certificate names another address than the one clients use",
        "reachable",
        "names other hosts (gateway_address, gateway_names)",
        encrypted=True,
        certified="127.0.0.9",
    ),
    _broken(
        "gateway_certificate_of_another_authority",
        "its certificate is of an authority that clients were not given",
        "reachable",
        "the certificate is of another authority",
        encrypted=True,
        declared={"ca_file": certificate("127.0.0.8")},
    ),
    _broken(
        "gateway_does_not_know_the_key",
        "the key that was handed out is not among its keys",
        "reachable",
        "the key is not one of the gateway's",
        declared={"api_key": "key-of-last-year"},
    ),
    _broken(
        "gateway_forgets_a_server",
        "a server that was added is missing in its list of models",
        "models_listed",
        "tiny-coder, tiny-embedding, tiny-llm at GET",
        wrongly=_forget_the_reranker,
    ),
    _broken(
        "gateway_lists_another_length",
        "its list of models tells another maximum length than the servers'",
        "models_listed",
        f"max_model_len {MAX_MODEL_LEN} of tiny-llm | {2 * MAX_MODEL_LEN}",
        wrongly=_list_another_length,
    ),
    _broken(
        "gateway_mixes_up_models",
        "of two language models one gets all requests",
        "routes_answer long_requests_answer",
        "an answer of the model tiny-coder | model 'tiny-llm'",
        wrongly=_lead_the_coder_s_requests_astray,
    ),
    _broken(
        "gateway_without_a_live_server",
        "no server of a kind is alive behind it",
        "routes_answer long_requests_answer",
        "no live server behind the gateway",
        wrongly=_have_no_live_reranker,
    ),
    _broken(
        "gateway_without_v2",
        "one of the paths that clients use is missing",
        "routes_answer",
        "HTTP 404 from POST",
        wrongly=_know_no_v2,
    ),
    _broken(
        "gateway_misses_the_model_of_a_long_request",
        "where two language models share a path, a long request gets 413",
        "long_requests_answer",
        "HTTP 413 from POST",
        wrongly=_look_no_further,
    ),
    _broken(
        "gateway_names_no_models",
        "an unknown model is refused without naming the known ones",
        "unknown_model_named",
        "an error that names tiny-llm, tiny-coder",
        wrongly=_name_no_models,
    ),
    _broken(
        "gateway_guards_only_v1",
        "/rerank and /score are open without a key, as vLLM itself leaves them",
        "key_required_everywhere",
        "HTTP 200 without a key",
        wrongly=_guard_only_v1,
    ),
    _broken(
        "gateway_tells_strangers_what_there_is",
        "without a key paths that are not there get 404 instead of 401",
        "key_required_everywhere",
        "HTTP 404 without a key",
        wrongly=_look_for_the_path_before_the_key,
    ),
    _broken(
        "gateway_takes_hashes_for_keys",
        "the hash of a key, which lies in its files, opens it",
        "key_required_everywhere",
        "HTTP 200 with the hash of the key",
        wrongly=_take_the_hash_for_the_key,
    ),
    _broken(
        "gateway_shows_metrics",
        "/metrics answers whoever has a key",
        "operations_hidden",
        "HTTP 404 with the right key | HTTP 200 with the right key from GET",
        wrongly=_show_metrics,
    ),
    _broken(
        "gateway_passes_on_all_of_a_server",
        "under a server's own base URL everything is passed on",
        "operations_hidden",
        "/servers/llm/collective_rpc",
        wrongly=_pass_on_all_of_a_server,
    ),
    _broken(
        "gateway_tidies_up_paths",
        "double slashes and dots are taken out of a path before it is looked up",
        "path_tricks_refused",
        "HTTP 200 with the right key",
        wrongly=_reading(_without_dots),
    ),
    _broken(
        "gateway_decodes_paths",
        "a path is decoded before it is looked up",
        "path_tricks_refused",
        "/v1/chat/%63ompletions",
        wrongly=_reading(unquote),
    ),
    _broken(
        "gateway_ignores_case",
        "a path is looked up whatever its case",
        "path_tricks_refused",
        "/V1/CHAT/COMPLETIONS",
        wrongly=_reading(str.lower),
    ),
    _broken(
        "gateway_takes_any_method",
        "whatever method is passed on to the server",
        "methods_refused",
        "HTTP 405 with the right key",
        wrongly=_pass_on_any_method,
    ),
    _broken(
        "gateway_says_no_in_html",
        "a refusal is a page for browsers",
        "errors_have_one_form",
        "another form",
        wrongly=_say_no_in_html,
    ),
    _broken(
        "gateway_uses_one_id_for_all",
        "all requests have one id",
        "errors_have_one_form",
        "the id of an earlier request",
        wrongly=_use_one_id_for_all,
    ),
    _broken(
        "gateway_waits_for_any_body",
        "a body of unknown length is passed on",
        "errors_have_one_form",
        "HTTP 411 for a body of unknown length",
        wrongly=_wait_for_any_body,
    ),
    _broken(
        "gateway_speaks_plain_http",
        "plain HTTP is answered on the port for TLS",
        "tls_only",
        "no answer to plain HTTP",
        encrypted=True,
        takes_both=True,
    ),
    _broken(
        "gateway_beside_open_ports",
        "the servers' own ports are open beside it",
        "server_ports_shut",
        "(llm on stub-host) takes connections",
        ports_open=True,
    ),
]
