"""The sheet "what to enter in Dify": as data for programs, and as Markdown for whoever types it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from shlex import quote
from typing import Any
from urllib.parse import urlsplit

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from vllm_fleet.addresses import is_loopback
from vllm_fleet.dify.fields import CHOICES, LABELS, NOTES, TYPES
from vllm_fleet.dify.models import (
    INDEXING_REQUESTS,
    PLUGIN_VERSION,
    PLUGIN_VERSIONS,
    PROVIDER,
    PROVIDER_LABEL,
    DifyModel,
    Plan,
    chosen_key,
    chunk_characters,
    dify_models,
    usable_servers,
)

TEMPLATE = "sheet.md.j2"
# What is made of the context length.
_MISSING = ("context_size", "max_tokens_to_sample")

Sheet = dict[str, Any]


def make_sheet(
    plan: Plan, key_name: str = "", ca_file: str | None = None, inventory: str = "", secret: str | None = None
) -> Sheet:
    """The sheet as data; it holds no secret unless one is given.

    Args:
        plan: a `GatewayPlan` as a mapping.
        key_name: the key Dify is to use; empty: that called dify, else the first.
        ca_file: the file of the private authority on the controller, where the certificate is of one.
        inventory: whose gateway it is, as for `ansible-playbook -i`; empty: the default one.
        secret: the key itself, to be put into the credentials of each model.

    Raises:
        FleetError: the gateway has no such key.
    """
    key = chosen_key(plan, key_name)
    servers, models = usable_servers(plan, key), dify_models(plan, key)
    return {
        "gateway": plan["host"],
        "provider": PROVIDER,
        "provider_label": PROVIDER_LABEL,
        "plugin_version": PLUGIN_VERSION,
        "plugin_versions": PLUGIN_VERSIONS,
        "base_url": f"{plan['base_url']}/v1",
        "address": urlsplit(plan["base_url"]).hostname or "",
        "tls": plan["tls"],
        "ca_file": ca_file,
        "key": {
            "name": key["name"],
            "show": f"scripts/gateway-keys{f' -i {quote(inventory)}' if inventory else ''} show {key['name']}",
            "requests_per_minute": key["requests_per_minute"],
            "concurrent_requests": key["concurrent_requests"],
        },
        "models": [_entry(model, models, secret) for model in models],
        "chunk_characters": chunk_characters(servers),
        "not_for_this_key": sorted({str(one["name"]) for one in plan["servers"]} - {one.server for one in models}),
        "warnings": _warnings(plan, key, models),
    }


def as_markdown(sheet: Sheet) -> str:
    """The sheet for people; an API key that it holds is not shown."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,  # noqa: S701 - Markdown; names and URLs are those of the inventory
    )
    rows = {one["server"]: _rows(one, sheet) for one in sheet["models"]}
    template = environment.get_template(TEMPLATE)
    return template.render(sheet=sheet, types=TYPES, rows=rows, indexing=INDEXING_REQUESTS)


def _entry(model: DifyModel, models: Sequence[DifyModel], secret: str | None) -> dict[str, Any]:
    """One model; the first of its type is to be the default."""
    of_type = [one for one in models if one.model_type == model.model_type]
    return {
        "server": model.server,
        "model": model.model,
        "model_type": model.model_type,
        "credentials": {**model.credentials, **({} if secret is None else {"api_key": secret})},
        "context_length": model.context_length,
        "own_url": model.own_url,
        "guide_form": None if model.guide_url is None else {"endpoint_url": model.guide_url},
        "other_urls": list(model.other_urls),
        "default": of_type[0] == model,
    }


def _rows(entry: Mapping[str, Any], sheet: Sheet) -> list[dict[str, str]]:
    """The rows of a model's table, in the order in which it is filled in."""
    values = {
        "model_type": TYPES[entry["model_type"]],
        "model": entry["model"],
        "api_key": "",
        **{name: value for name, value in entry["credentials"].items() if name != "api_key"},
    }
    wanted = [name for name in _MISSING if name == "context_size" or entry["model_type"] == "llm"]
    for name in wanted if entry["context_length"] is None else ():
        values[name] = ""
    return [_row(name, value, sheet) for name, value in values.items()]


def _row(name: str, value: str, sheet: Sheet) -> dict[str, str]:
    note = NOTES.get(name, "")
    if name == "api_key":
        shown, note = f"the key `{sheet['key']['name']}`", f"`{sheet['key']['show']}` shows it"
    elif (name, value) in CHOICES:
        english, chinese = CHOICES[name, value]
        shown = f"{english} · {chinese}" if english != chinese else english
    elif value:
        shown = f"`{value}`"
    else:
        shown, note = "see below", "not known: the server's length is not declared"
    english, chinese = LABELS[name]
    return {"english": english, "chinese": chinese, "name": name, "value": value, "shown": shown, "note": note}


def _warnings(plan: Plan, key: Mapping[str, Any], models: Sequence[DifyModel]) -> list[str]:
    """What will not work, or not well, as it is declared."""
    found = []
    if is_loopback(urlsplit(plan["base_url"]).hostname or ""):
        found.append(
            f"{plan['base_url']} leads nowhere from Dify: in its plugin daemon's container 127.0.0.1 is that "
            f"container. Declare gateway_address with an address of {plan['host']} that the container reaches."
        )
    if 0 < key["concurrent_requests"] < INDEXING_REQUESTS:
        found.append(
            f"The key {key['name']} may have {key['concurrent_requests']} requests under way. Dify has "
            f"{INDEXING_REQUESTS} when it fills a knowledge base, and gives up at the first that is refused: declare "
            f"concurrent_requests: {INDEXING_REQUESTS} or more for it in gateway_keys."
        )
    if key["requests_per_minute"]:
        found.append(
            f"The key {key['name']} may send {key['requests_per_minute']} requests a minute. Dify sends one for each "
            "chunk of a document and gives up at the first that is refused: declare requests_per_minute: 0 for it."
        )
    if plan["tls"] == "none":
        found.append("The gateway speaks plain HTTP: the API key and all texts can be read on the way.")
    types = Counter(one.model_type for one in models)
    for kind, count in types.items():
        if count > 1:
            found.append(
                f"{count} servers are of type {TYPES[kind]}. Each is entered with its own URL, which takes requests of "
                "any length; behind the common one the model's name must be found in the request first."
            )
    name = key["name"]
    found += [f"No server that the key {name} may use is of type {TYPES[one]}." for one in TYPES if not types[one]]
    names = Counter((one.model_type, one.model) for one in models)
    for (_, model), count in names.items():
        if count > 1:
            found.append(f"{count} servers serve the name {model}, and Dify knows a model by its name only: enter one.")
    return found
