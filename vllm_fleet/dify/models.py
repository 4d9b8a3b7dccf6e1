"""The models of a gateway as Dify's provider OpenAI-API-compatible takes them. Pure: plans in, strings out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from vllm_fleet.errors import FleetError

PROVIDER = "langgenius/openai_api_compatible/openai_api_compatible"
PROVIDER_LABEL = "OpenAI-API-compatible"
MODEL_TYPES = {"llm": "llm", "embedding": "text-embedding", "rerank": "rerank"}
# Embeddings: 0.0.43 to 0.0.54 send some or all texts as chat messages, of which the last part was mended in 0.0.63.
# Rerank: before 0.0.35 the scores of each answer are stretched to 0..1.
PLUGIN_VERSIONS = {"llm": "0.0.63", "text-embedding": "0.0.63", "rerank": "0.0.35"}
PLUGIN_VERSION = "0.0.63"
# 4 workers with 10 threads, one text each, while a knowledge base is filled.
INDEXING_REQUESTS = 40

Plan = Mapping[str, Any]


@dataclass(frozen=True)
class DifyModel:
    """One model to add in Dify.

    Attributes:
        server: the model server's name.
        model: the name to type as Model Name; identity, defaults and cached vectors hang on it.
        model_type: as Dify's API calls it.
        credentials: the form's fields, all strings; without the API key, and without what is not known.
        context_length: tokens; None where it is not known, and then the fields made of it are missing.
        own_url: the server's own base URL, with /v1.
        guide_url: the URL in the original guide's form, for a reranker, whose URL has no /v1 there; None for others.
        other_urls: more URLs that lead to this model.
    """

    server: str
    model: str
    model_type: str
    credentials: Mapping[str, str]
    context_length: int | None
    own_url: str
    guide_url: str | None
    other_urls: tuple[str, ...]


def chosen_key(plan: Plan, name: str = "") -> Mapping[str, Any]:
    """The key Dify is to use: the named one, else the one that is called dify, else the first.

    Raises:
        FleetError: the gateway has no such key, or none at all.
    """
    keys = {str(key["name"]): key for key in plan["keys"]}
    if not keys:
        raise FleetError(f"The gateway on {plan['host']} has no key: declare one in gateway_keys.")
    if name and name not in keys:
        raise FleetError(
            f"dify_key_name: the gateway on {plan['host']} has no key {name!r}; it has {', '.join(sorted(keys))}."
        )
    key: Mapping[str, Any] = keys.get(name) or keys.get("dify") or next(iter(keys.values()))
    return key


def usable_servers(plan: Plan, key: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The servers that a key may use, by kind as Dify's form lists them."""
    allowed = key.get("servers")
    servers = [one for one in plan["servers"] if allowed is None or one["name"] in allowed]
    return sorted(servers, key=lambda one: list(MODEL_TYPES).index(one["kind"]))


def dify_models(plan: Plan, key: Mapping[str, Any]) -> list[DifyModel]:
    """The models to add in Dify for a key, LLMs first."""
    servers = usable_servers(plan, key)
    kinds = Counter(str(one["kind"]) for one in servers)
    return [_model(one, plan["base_url"], alone=kinds[one["kind"]] == 1) for one in servers]


def chunk_characters(servers: Sequence[Mapping[str, Any]]) -> int | None:
    """The longest chunk of a knowledge base, in characters, that its models can surely read; None where not known.

    Their limits are tokens. Two tokens for a character are more than ordinary text of any script needs. A reranker
    reads the question together with the chunk, so a quarter of its length is left to the question.
    """
    limits = [
        length if one["kind"] == "embedding" else length * 3 // 4
        for one in servers
        if one["kind"] != "llm" and (length := one["context_length"]) is not None
    ]
    unknown = any(one["context_length"] is None for one in servers if one["kind"] != "llm")
    return None if unknown or not limits else min(limits) // 2


def _model(server: Mapping[str, Any], base_url: str, alone: bool) -> DifyModel:
    """A model. Where several servers are of its kind, its own URL, since a shared one has to look into requests."""
    own, shared = f"{server['url']}/v1", f"{base_url}/v1"
    kind, length = str(server["kind"]), server["context_length"]
    credentials = {"endpoint_url": shared if alone else own, "endpoint_model_name": str(server["model"])}
    match kind:
        case "llm":
            credentials |= _llm(length, bool(server["tool_calls"]))
        case "embedding":
            credentials |= _context(length) | {"max_chunks": "1", "encoding_format": "not_set"}
        case _:
            credentials |= _context(length)
    roots = (base_url, server["url"]) if alone else (server["url"],)
    reranks = kind == "rerank"
    return DifyModel(
        server=str(server["name"]),
        model=str(server["model"]),
        model_type=MODEL_TYPES[kind],
        credentials=credentials,
        context_length=length,
        own_url=own,
        guide_url=str(roots[0]) if reranks else None,
        other_urls=((own,) if alone else ()) + (tuple(map(str, roots[1:])) if reranks else ()),
    )


def _context(length: int | None) -> dict[str, str]:
    return {} if length is None else {"context_size": str(length)}


def _llm(length: int | None, tool_calls: bool) -> dict[str, str]:
    """The fields of a language model; half of its length is left to the question, even with the longest answer."""
    longest = {} if length is None else {"max_tokens_to_sample": str(length // 2)}
    return {
        "mode": "chat",
        **_context(length),
        **longest,
        "agent_thought_support": "not_supported",
        "compatibility_mode": "strict",
        "token_param_name": "auto",
        "stream_include_usage": "enabled",
        "function_calling_type": "tool_call" if tool_calls else "no_call",
        "stream_function_calling": "supported" if tool_calls else "not_supported",
        "vision_support": "no_support",
        "structured_output_support": "not_supported",
        "stream_mode_auth": "not_use",
        "stream_mode_delimiter": r"\n\n",
    }
