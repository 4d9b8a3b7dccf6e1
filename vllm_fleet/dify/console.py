"""Dify's console API, as far as models need it. It is undocumented, and was changed in 1.8.0, 1.9.2 and 1.11.2."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import requests

from vllm_fleet.dify.advice import advice, cause
from vllm_fleet.dify.models import PROVIDER
from vllm_fleet.errors import FleetError

OLDEST = (1, 11, 2)
HIDDEN = "[__HIDDEN__]"
CONNECT_TIMEOUT, ANSWER_TIMEOUT = 5.0, 120.0  # seconds; a validation waits for the model server
_API = "/console/api"
_MODELS = f"workspaces/current/model-providers/{PROVIDER}/models"
_SHOWN = 300  # characters of an answer


@dataclass(frozen=True)
class Login:
    """How to get in: with an account, or with the key of ADMIN_API_KEY_ENABLE and the id of a workspace."""

    url: str  # such as https://dify.example.org, without /console/api
    email: str = ""
    password: str = field(default="", repr=False)
    admin_key: str = field(default="", repr=False)
    workspace: str = ""
    ca_file: str | None = None

    @property
    def secrets(self) -> tuple[str, ...]:
        """What no message may hold."""
        return tuple(one for one in (self.password, _encoded(self.password), self.admin_key) if one)


@dataclass(frozen=True)
class Stored:
    """A model as Dify has it; ``credentials`` hold masked secrets. ``others`` are names of credentials not in use."""

    credential_id: str | None
    name: str | None
    credentials: Mapping[str, Any]
    others: Mapping[str, str]  # ids by name


class Console:
    """A session at Dify's console. Every method raises FleetError, without a secret in it."""

    def __init__(self, login: Login, secrets: Sequence[str] = ()) -> None:
        _require_usable(login)
        self._url, self._login = login.url.rstrip("/"), login
        self._secrets = [*login.secrets, *(one for one in secrets if one)]
        self._session = requests.Session()
        self._session.trust_env = False
        self._session.verify = login.ca_file or True

    def version(self) -> str | None:
        """Dify's version, None where it does not tell.

        /health says it. Dify's own nginx passes nothing but the APIs on, and there it is a header of each answer.
        """
        health = self._send("GET", "/health")
        with_version = _object(health).get("version")
        if health.ok and isinstance(with_version, str):
            return with_version
        header = self._send("GET", f"{_API}/setup").headers.get("X-Version", "")
        return header.partition(",")[0].strip() or None

    def log_in(self) -> None:
        """Begin a session; an admin key needs none."""
        if self._login.admin_key:
            self._session.headers["Authorization"] = f"Bearer {self._login.admin_key}"
            self._session.headers["X-WORKSPACE-ID"] = self._login.workspace
            return
        body = {"email": self._login.email, "password": _encoded(self._login.password), "remember_me": False}
        answer = self._call("POST", "login", body)
        if answer.get("result") != "success":
            raise FleetError(self._said("refuses the login", answer))
        self._secrets += [one.value for one in self._session.cookies if one.value]
        token = next((one.value for one in self._session.cookies if one.name.endswith("csrf_token")), None)
        if not token:
            raise FleetError(f"Dify at {self._url} gave no csrf_token with the login: it is not the Dify known here.")
        self._session.headers["X-CSRF-Token"] = token

    def validate(self, model: str, model_type: str, credentials: Mapping[str, str]) -> None:
        """Have Dify's plugin daemon ask the model server, as it does before it saves."""
        body = {"model": model, "model_type": model_type, "credentials": dict(credentials)}
        answer = self._call("POST", f"{_MODELS}/credentials/validate", body)
        if answer.get("result") != "success":
            raise FleetError(self._refused(f"{model_type} {model}", str(answer.get("error") or answer)))

    def read(self, model: str, model_type: str) -> Stored:
        """What Dify has of a model."""
        query = {"model": model, "model_type": model_type, "config_from": "custom-model"}
        answer = self._call("GET", f"{_MODELS}/credentials", query=query)
        current = answer.get("current_credential_id")
        others = {
            str(one.get("credential_name")): str(one.get("credential_id"))
            for one in answer.get("available_credentials") or ()
            if one.get("credential_id") != current
        }
        return Stored(current, answer.get("current_credential_name"), answer.get("credentials") or {}, others)

    def create(self, model: str, model_type: str, name: str, credentials: Mapping[str, str]) -> None:
        """Add a model."""
        body = {"model": model, "model_type": model_type, "name": name, "credentials": dict(credentials)}
        self._call("POST", f"{_MODELS}/credentials", body)

    def update(self, model: str, model_type: str, stored: Stored, credentials: Mapping[str, Any]) -> None:
        """Change a model; a secret given as `HIDDEN` stays."""
        body = {
            "model": model,
            "model_type": model_type,
            "credential_id": stored.credential_id,
            "name": stored.name,
            "credentials": dict(credentials),
        }
        self._call("PUT", f"{_MODELS}/credentials", body)

    def default(self, model_type: str) -> tuple[str, str] | None:
        """Provider and name of the default model of a type."""
        found = self._call("GET", "workspaces/current/default-model", query={"model_type": model_type}).get("data")
        provider = found.get("provider") if isinstance(found, Mapping) else None
        name = provider.get("provider") if isinstance(provider, Mapping) else provider
        return (str(name), str(found["model"])) if isinstance(found, Mapping) and found.get("model") else None

    def set_defaults(self, models: Mapping[str, str]) -> None:
        """Make models the defaults, by type."""
        settings = [{"model_type": kind, "provider": PROVIDER, "model": model} for kind, model in models.items()]
        self._call("POST", "workspaces/current/default-model", {"model_settings": settings})

    def _call(
        self, method: str, path: str, body: Mapping[str, Any] | None = None, query: Mapping[str, str] | None = None
    ) -> Mapping[str, Any]:
        answer = self._send(method, f"{_API}/{path}", body, query)
        found = _object(answer)
        if answer.is_redirect:
            where = answer.headers.get("Location", "")
            raise FleetError(f"Dify at {self._url} redirects to {where}: give that address as dify_console_url.")
        if answer.ok and found:
            return found
        if answer.ok:
            raise FleetError(
                f"{self._url} answered {method} {path} with something else than JSON: is it Dify's address?"
            )
        raise FleetError(
            self._said(f"answered {method} {path} with HTTP {answer.status_code}", found, answer.status_code)
        )

    def _send(
        self, method: str, path: str, body: Mapping[str, Any] | None = None, query: Mapping[str, str] | None = None
    ) -> requests.Response:
        try:
            return self._session.request(
                method,
                f"{self._url}{path}",
                json=body,
                params=query,
                timeout=(CONNECT_TIMEOUT, ANSWER_TIMEOUT),
                allow_redirects=False,
            )
        except requests.exceptions.SSLError:
            raise FleetError(
                f"Dify at {self._url}: its certificate is not trusted. Name the file of its authority in "
                "dify_console_ca_file."
            ) from None
        except requests.RequestException as error:
            raise FleetError(
                f"Dify at {self._url} does not answer ({type(error).__name__}). Is dify_console_url right, and "
                "reachable from this controller?"
            ) from None

    def _said(self, what: str, answer: Mapping[str, Any], status: int = 0) -> str:
        text = str(answer.get("message") or answer.get("data") or answer.get("code") or "")
        return f"Dify at {self._url} {what}{': ' if text else '.'}{self._shown(text)}{advice(status, text)}"

    def _refused(self, what: str, text: str) -> str:
        return f"Dify at {self._url} does not accept {what}: {self._shown(text)} {cause(text)}"

    def _shown(self, text: str) -> str:
        for secret in sorted(self._secrets, key=len, reverse=True):
            text = text.replace(secret, "[secret]")
        line = " ".join(text.split())
        return line if len(line) <= _SHOWN else f"{line[:_SHOWN]}..."


def require_supported(version: str | None, url: str, force: bool) -> None:
    """Stop where the console API is not known to be as it is used here.

    Raises:
        FleetError: the version is unknown or too old, and `force` is not set.
    """
    numbers = re.match(r"(\d+)\.(\d+)\.(\d+)", version or "")
    if force or (numbers and tuple(map(int, numbers.groups())) >= OLDEST):
        return
    oldest = ".".join(map(str, OLDEST))
    found = f"is version {version}" if version else "does not tell its version"
    raise FleetError(
        f"Dify at {url} {found}. Models are registered from {oldest} on, since the console API was another before. "
        "Nothing was changed: enter them by hand as the sheet says, or set dify_console_force: true if you know better."
    )


def _require_usable(login: Login) -> None:
    parts = urlsplit(login.url)
    if parts.scheme not in ("http", "https") or not parts.hostname or "@" in parts.netloc:
        raise FleetError(
            "dify_console_url must look like https://dify.example.org, without a user or a password in it."
        )
    if login.admin_key and not login.workspace:
        raise FleetError("dify_console_admin_key needs dify_console_workspace, the id of the workspace.")
    if not login.admin_key and not (login.email and login.password):
        raise FleetError("dify_console_url is set: dify_console_email and dify_console_password are needed as well.")


def _encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def _object(answer: requests.Response) -> Mapping[str, Any]:
    try:
        found = json.loads(answer.content)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
