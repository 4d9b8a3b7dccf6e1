"""From what a gateway serves to files that talk to it: one per client, for one key, ready to run.

The templates are the files themselves, readable as such. A snippet holds no key: it reads the environment.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from vllm_fleet.errors import FleetError

TEMPLATES = Path(__file__).parent / "templates"
# How long an answer may take, in seconds. The gateway waits longer, so that it is the client that says what ran out.
TIMEOUT = 600
# The kinds of server that a client has something to say to. Python files are named so that they hide no package.
CLIENTS = {
    "README.md": ("llm", "embedding", "rerank"),
    "curl.sh": ("llm", "embedding", "rerank"),
    "openai_client.py": ("llm", "embedding"),
    "langchain_client.py": ("llm", "embedding"),
    "litellm_client.py": ("llm", "embedding", "rerank"),
    "litellm_proxy.yaml": ("llm", "embedding", "rerank"),
    "cohere_client.py": ("rerank",),
    "jina_client.py": ("rerank",),
}


def snippets(plan: Mapping[str, Any], key: str, ca_file: str | None, inventory: str | None = None) -> dict[str, str]:
    """Return the snippets by file name, for those kinds of server that the key may use.

    Args:
        plan: ``GatewayPlan.as_dict()``.
        key: name of the key that the snippets are for.
        ca_file: the certificate authority that clients must be told of, None where they know it already.
        inventory: path of the inventory in which the key is declared, None for that of ansible.cfg.

    Raises:
        FleetError: the gateway has no such key.
    """
    servers = _with_bases(plan["base_url"], _usable(plan, key))
    kinds = {server["kind"] for server in servers}
    wanted = [name for name, spoken in CLIENTS.items() if kinds.intersection(spoken)]
    environment = _environment()
    values = {
        "gateway": plan["base_url"],
        "host": plan["host"],
        "key": key,
        "key_command": _key_command(key, inventory),
        "ca_file": ca_file,
        "timeout": TIMEOUT,
        "servers": servers,
        "files": wanted,
        **{kind: [one for one in servers if one["kind"] == kind] for kind in ("llm", "embedding", "rerank")},
    }
    return {name: environment.get_template(f"{name}.j2").render(values) for name in wanted}


def _key_command(key: str, inventory: str | None) -> str:
    """The command that makes the controller's key known to a snippet."""
    words = ["scripts/gateway-keys", *(["-i", inventory] if inventory else []), "show", key]
    return f'export VLLM_API_KEY="$({shlex.join(words)})"'


def _usable(plan: Mapping[str, Any], name: str) -> list[Mapping[str, Any]]:
    """The servers that the key may use."""
    keys = {key["name"]: key for key in plan["keys"]}
    if name not in keys:
        raise FleetError(
            f"The gateway on {plan['host']} has no key '{name}'; it has: {', '.join(sorted(keys)) or 'none'}. "
            "Name one of them in clients_key, or declare it in gateway_keys."
        )
    allowed = keys[name]["servers"]
    return [server for server in plan["servers"] if allowed is None or server["name"] in allowed]


def _with_bases(gateway: str, servers: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Add to each server its ``base``, the URL to give a client, without /v1.

    That is the gateway's own where the path alone leads to the server. Where the body would have to be read for the
    model's name, which ends at the size of a buffer, it is the server's own.
    """
    servers = list(servers)
    kinds = [server["kind"] for server in servers]
    return [{**server, "base": gateway if kinds.count(server["kind"]) == 1 else server["url"]} for server in servers]


def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,  # noqa: S701 - no HTML; the two filters quote for what is written
    )
    environment.filters["quoted"] = _quoted
    environment.filters["sh"] = lambda text: shlex.quote(str(text))
    return environment


def _quoted(text: str) -> str:
    """Quote a text in a way that means the same in JSON, Python and YAML."""
    quoted = json.dumps(text, ensure_ascii=False)
    return "".join(char if char.isprintable() or char > "\uffff" else json.dumps(char)[1:-1] for char in quoted)
