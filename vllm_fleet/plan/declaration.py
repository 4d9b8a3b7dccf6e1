"""What an inventory declares: the list ``model_servers``, checked and typed.

`parse` reads the whole list before it answers, so that every mistake is reported in one go.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import PurePosixPath
from typing import Any

from vllm_fleet.plan.flags import FlagCatalogue
from vllm_fleet.plan.problems import Problem, did_you_mean
from vllm_fleet.units import RESERVED_NAMES

KINDS = ("llm", "embedding", "rerank")
DTYPES = ("auto", "half", "float16", "bfloat16", "float", "float32")
NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,40}[a-z0-9])?")
HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
REVISION = re.compile(r"[\w.][\w./-]*")
ENVIRONMENT_NAME = re.compile(r"[A-Z_][A-Z0-9_]*")


@dataclass(frozen=True)
class ModelServer:
    """One declared model server; each becomes the unit ``vllm-<name>.service``.

    ``gpu_memory_utilization`` is a fraction of a GPU's total memory, ``max_model_len`` counts tokens,
    ``gpus`` are indices in PCI bus order.
    """

    name: str
    kind: str
    model: str
    port: int
    dtype: str = "auto"
    served_model_name: str | None = None
    tensor_parallel_size: int = 1
    revision: str | None = None
    copy_from: str | None = None
    tool_call_parser: str | None = None
    chat_template: str | None = None
    trust_remote_code: bool = False
    max_model_len: int | None = None
    quantization: str | None = None
    gpus: tuple[int, ...] | None = None
    gpu_memory_utilization: float | None = None
    extra_args: Mapping[str, Any] = field(default_factory=dict)
    env: Mapping[str, str] = field(default_factory=dict)

    @property
    def public_name(self) -> str:
        """The model name clients send: declared, or the model as declared."""
        return self.served_model_name or self.model

    @property
    def local(self) -> bool:
        """True where ``model`` is a directory on the host that somebody else put there."""
        return self.model.startswith("/") and self.copy_from is None


KEYS = tuple(f.name for f in fields(ModelServer))
REQUIRED = ("name", "kind", "model", "port")
# Flags with a key, or a variable, of their own: two places to say one thing would be one too many.
OWN_KEY = {
    "api-key": "the variable model_server_api_key",
    "host": "the variable model_server_bind_address",
    "shutdown-timeout": "the variable model_server_drain_seconds",
    "runner": "the key kind",
    "model": "the key model",
    "enable-auto-tool-choice": "the key tool_call_parser",
    **{
        key.replace("_", "-"): f"the key {key}"
        for key in KEYS
        if key not in ("name", "kind", "model", "gpus", "copy_from", "extra_args", "env")
    },
}


def parse(raw: object, flags: FlagCatalogue) -> tuple[tuple[ModelServer, ...], tuple[Problem, ...]]:
    """Read the declaration; return the servers that could be read and every problem found.

    Args:
        raw: the value of ``model_servers``: a list of mappings.
        flags: the flags of the pinned ``vllm serve``, against which ``extra_args`` is checked.
    """
    if not isinstance(raw, list) or not raw:
        found = "an empty list" if raw == [] else type(raw).__name__
        return (), (Problem("model_servers", f"expected a list of model servers, found {found}"),)
    servers: list[ModelServer] = []
    problems: list[Problem] = []
    for position, entry in enumerate(raw, start=1):
        server, found_problems = _parse_one(entry, position, flags)
        problems += found_problems
        if server is not None:
            servers.append(server)
    problems += _duplicates(raw)
    return tuple(servers), tuple(problems)


def _parse_one(entry: object, position: int, flags: FlagCatalogue) -> tuple[ModelServer | None, list[Problem]]:
    if not isinstance(entry, Mapping):
        return None, [Problem(f"server {position}", f"expected a mapping, found {type(entry).__name__}")]
    name = entry.get("name")
    where = f"server {name}" if isinstance(name, str) and name else f"server {position}"
    problems = [
        Problem(where, f"unknown key {key!r}{did_you_mean(str(key), KEYS)}") for key in entry if key not in KEYS
    ]
    problems += [Problem(where, f"{key} is missing") for key in REQUIRED if entry.get(key) in (None, "")]
    values: dict[str, Any] = {}
    for key, check in _CHECKS.items():
        # A key that is empty in YAML counts as not given.
        if entry.get(key) is None or (key in REQUIRED and entry[key] == ""):
            continue
        expected = check(entry[key])
        if expected is None:
            values[key] = entry[key]
        else:
            problems.append(Problem(where, f"{key}: expected {expected}, found {entry[key]!r}"))
    if name in RESERVED_NAMES:
        problems.append(
            Problem(where, f"name: vllm-{name}.service is a unit of this project; name the server otherwise")
        )
    problems += [Problem(where, message) for message in _combinations(values)]
    for key in ("tool_call_parser", "quantization"):
        if key in values and (reason := flags.refuse(key.replace("_", "-"), values[key])) is not None:
            problems.append(Problem(where, f"{key}: {reason}"))
    for flag, value in values.get("extra_args", {}).items():
        normal = str(flag).removeprefix("--").replace("_", "-")
        if normal in OWN_KEY:
            problems.append(Problem(where, f"extra_args: {flag} is set by {OWN_KEY[normal]}"))
        elif (reason := flags.refuse(normal, value)) is not None:
            problems.append(Problem(where, f"extra_args: {reason}"))
    if problems:
        return None, problems
    if "gpus" in values:
        values["gpus"] = tuple(values["gpus"])
    values["env"] = {key: str(value) for key, value in values.get("env", {}).items()}
    return ModelServer(**values), []


def _combinations(values: Mapping[str, Any]) -> list[str]:
    """Reasons why keys that are right each by itself do not go together."""
    reasons = []
    kind, model = values.get("kind"), values.get("model", "")
    if kind in ("embedding", "rerank"):
        # A reranker that is a language model has a prompt, too.
        unfit = ("tool_call_parser",) if kind == "rerank" else ("tool_call_parser", "chat_template")
        reasons += [f"{key} is for kind llm, this server is of kind {kind}" for key in unfit if key in values]
    if model.startswith("/") and "revision" in values:
        reasons.append(f"revision names a commit of the hub, but model is the directory {model}; remove one")
    if "copy_from" in values and "revision" in values:
        reasons.append("copy_from and revision exclude each other: a copied directory has no hub commit")
    tensor_parallel_size, gpus = values.get("tensor_parallel_size", 1), values.get("gpus")
    if gpus is not None and len(gpus) != tensor_parallel_size:
        reasons.append(f"gpus names {len(gpus)} GPUs, tensor_parallel_size is {tensor_parallel_size}; make them equal")
    return reasons


def _duplicates(raw: list[Any]) -> list[Problem]:
    entries = [entry for entry in raw if isinstance(entry, Mapping)]
    problems = []
    for key in ("name", "port", "served_model_name"):
        counts = Counter(entry[key] for entry in entries if isinstance(entry.get(key), str | int))
        for value, count in counts.items():
            if count > 1:
                names = ", ".join(str(entry.get("name", "?")) for entry in entries if entry.get(key) == value)
                problems.append(Problem("model_servers", f"{key} {value} is declared {count} times (servers {names})"))
    return problems


def _is_int(value: object, least: int, most: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= most


def _text(value: object) -> str | None:
    return None if isinstance(value, str) and value and value.isprintable() else "text"


def _name(value: object) -> str | None:
    fits = isinstance(value, str) and NAME.fullmatch(value)
    return None if fits else "lower-case letters, digits and '-' (it becomes vllm-<name>.service)"


def _model(value: object) -> str | None:
    if isinstance(value, str) and (HUB_ID.fullmatch(value) or _clean_path(value)):
        return None
    return "a hub id such as BAAI/bge-m3 or an absolute path on the host"


def _clean_path(value: str) -> bool:
    path = PurePosixPath(value)
    return path.is_absolute() and ".." not in path.parts and value.isprintable() and " " not in value


def _one_of(choices: tuple[str, ...]) -> Any:
    return lambda value: None if value in choices else f"one of {', '.join(choices)}"


def _boolean(value: object) -> str | None:
    return None if isinstance(value, bool) else "true or false"


def _gpus(value: object) -> str | None:
    if isinstance(value, list) and value and all(_is_int(n, 0, 63) for n in value) and len(set(value)) == len(value):
        return None
    return "a list of different GPU indices such as [0, 1]"


def _fraction(value: object) -> str | None:
    fits = isinstance(value, int | float) and not isinstance(value, bool) and 0 < value <= 1
    return None if fits else "a fraction of the GPU's memory, above 0 and at most 1"


def _mapping(value: object) -> str | None:
    return None if isinstance(value, Mapping) and all(isinstance(k, str) for k in value) else "a mapping"


def _environment(value: object) -> str | None:
    if isinstance(value, Mapping) and all(
        isinstance(k, str) and ENVIRONMENT_NAME.fullmatch(k) and isinstance(v, str | int | float)
        for k, v in value.items()
    ):
        return None
    return "a mapping of environment variable names to values"


_CHECKS: dict[str, Any] = {
    "name": _name,
    "kind": _one_of(KINDS),
    "model": _model,
    "port": lambda v: None if _is_int(v, 1024, 65535) else "a port from 1024 to 65535",
    "dtype": _one_of(DTYPES),
    "served_model_name": _text,
    "tensor_parallel_size": lambda v: None if _is_int(v, 1, 64) else "a number of GPUs, 1 to 64",
    "revision": lambda v: (
        None if isinstance(v, str) and REVISION.fullmatch(v) else "a commit, tag or branch of the hub"
    ),
    "copy_from": lambda v: None if isinstance(v, str) and v else "a directory on the controller",
    "tool_call_parser": _text,
    "chat_template": lambda v: None if isinstance(v, str) and _clean_path(v) else "an absolute path on the host",
    "trust_remote_code": _boolean,
    "max_model_len": lambda v: None if _is_int(v, 1, 100_000_000) else "a number of tokens",
    "quantization": _text,
    "gpus": _gpus,
    "gpu_memory_utilization": _fraction,
    "extra_args": _mapping,
    "env": _environment,
}
