"""Make the models of a sheet known to Dify: what differs, and what is done about it."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from vllm_fleet.dify.console import HIDDEN, Console, Stored
from vllm_fleet.dify.models import PROVIDER
from vllm_fleet.errors import FleetError

_MASKED = re.compile(r"\*{3,}")
NAME_LENGTH = 30  # characters of a credential's name, at most


def register(
    console: Console, sheet: Mapping[str, Any], api_key: str, defaults: bool = False, check: bool = False
) -> list[str]:
    """Create or update the models of a sheet, and make them the defaults; return a sentence for each change.

    All models are accepted by Dify before the first one is changed. Those that are as they should be are left alone.

    Args:
        console: logged in.
        sheet: from `make_sheet`.
        api_key: the key that Dify is to send.
        defaults: whether the first model of each type is to be the default.
        check: say what would be done, and do nothing; then Dify is not asked to try the models either.

    Raises:
        FleetError: a context length is not known, or Dify refuses something.
    """
    _require_complete(sheet)
    found = [(entry, console.read(entry["model"], entry["model_type"])) for entry in sheet["models"]]
    for entry, stored in found:
        _require_free(sheet, entry, stored)
    todo = [(entry, stored, differences(entry, stored, api_key)) for entry, stored in found]
    todo = [(entry, stored, names) for entry, stored, names in todo if names]
    changes = [_sentence(entry, stored, names) for entry, stored, names in todo]
    if not check:
        for entry, _, _ in todo:
            console.validate(entry["model"], entry["model_type"], entry["credentials"] | {"api_key": api_key})
        for entry, stored, names in todo:
            _change(console, sheet, entry, stored, names, api_key)
    return changes + (list(_defaults(console, sheet, check)) if defaults else [])


def differences(entry: Mapping[str, Any], stored: Stored, api_key: str) -> list[str]:
    """The fields in which a model in Dify is not as the sheet says; all of them where it is not there.

    A field that Dify does not give back is one that the installed plugin does not have, and is not compared.
    """
    wanted = entry["credentials"]
    if stored.credential_id is None:
        return [*wanted, "api_key"]
    names = [name for name, value in wanted.items() if name in stored.credentials and stored.credentials[name] != value]
    return names + ([] if same_secret(str(stored.credentials.get("api_key") or ""), api_key) else ["api_key"])


def same_secret(masked: str, secret: str) -> bool:
    """Whether a masked secret, such as sk-abc************yz, can be this one; one that is all stars can be any."""
    if "*" not in masked:
        return masked == secret
    head, _, rest = masked.partition("*")
    return secret.startswith(head) and secret.endswith(rest.lstrip("*"))


def _require_complete(sheet: Mapping[str, Any]) -> None:
    for entry in sheet["models"]:
        if entry["context_length"] is None:
            raise FleetError(
                f"The context length of the server {entry['server']} is not known, and Dify needs it: declare "
                "max_model_len for it in model_servers."
            )
    names = Counter((entry["model_type"], entry["model"]) for entry in sheet["models"])
    for (kind, model), count in names.items():
        if count > 1:
            raise FleetError(
                f"{count} servers of type {kind} serve the name {model}, and Dify knows a model by its name only: give "
                "them different served_model_name, or the key that Dify uses only one of them (servers)."
            )


def _require_free(sheet: Mapping[str, Any], entry: Mapping[str, Any], stored: Stored) -> None:
    name = credential_name(sheet["gateway"], sheet["key"]["name"])
    if stored.credential_id is None and name in stored.others:
        raise FleetError(
            f"Dify has a credential {name} of the {entry['model_type']} model {entry['model']} that is not in use. "
            "Choose it in Dify under Add Model, or delete it, and run again. Nothing was changed."
        )


def _change(
    console: Console, sheet: Mapping[str, Any], entry: Mapping[str, Any], stored: Stored, names: list[str], api_key: str
) -> None:
    model, kind, credentials = entry["model"], entry["model_type"], dict(entry["credentials"])
    if stored.credential_id is None:
        name = credential_name(sheet["gateway"], sheet["key"]["name"])
        console.create(model, kind, name, credentials | {"api_key": api_key})
        return
    # What somebody added there stays, other secrets among it, which are shown masked.
    kept = {key: HIDDEN if _MASKED.search(str(value)) else value for key, value in stored.credentials.items()}
    kept |= credentials | {"api_key": api_key if "api_key" in names else HIDDEN}
    console.update(model, kind, stored, kept)


def credential_name(gateway: str, key: str) -> str:
    """The name under which a model's credentials are kept in Dify."""
    return f"{key}@{gateway}"[:NAME_LENGTH]


def _sentence(entry: Mapping[str, Any], stored: Stored, names: list[str]) -> str:
    what = f"{entry['model_type']} {entry['model']}"
    return f"create {what}" if stored.credential_id is None else f"update {what}: {', '.join(names)}"


def _defaults(console: Console, sheet: Mapping[str, Any], check: bool) -> Iterator[str]:
    wanted = {entry["model_type"]: entry["model"] for entry in sheet["models"] if entry["default"]}
    wrong = {kind: model for kind, model in wanted.items() if console.default(kind) != (PROVIDER, model)}
    if wrong and not check:
        console.set_defaults(wrong)
    for kind, model in wrong.items():
        yield f"make {model} the default {kind}"
