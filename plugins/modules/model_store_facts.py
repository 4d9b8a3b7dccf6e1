#!/usr/bin/python
"""Ansible module: compare the models a host has with those it should have, in one look."""

from __future__ import annotations

DOCUMENTATION = r"""
module: model_store_facts
short_description: Compare the models a host has with those it should have
description:
  - Compares each model's manifest with its files and with what was asked for. Changes nothing.
  - Asks the hub only about models that are not complete, so that a missing model, a token without rights or a full
    disk is found
    before a download starts.
options:
  models:
    description: >-
      Models with the keys id, revision, copy_from and path, and for one with copy_from its C(source), as the filter
      C(directory_listing) makes it.
    type: list
    elements: dict
    required: true
  user:
    description: User that must be able to read them.
    type: str
    required: true
  verify:
    description: V(quick) compares sizes and times, V(full) treats every model as one to verify.
    type: str
    choices: [quick, full]
    default: quick
  endpoint:
    description: URL of the hub.
    type: str
    required: true
  token:
    description: Token for the hub.
    type: str
    default: ""
  timeout:
    description: Seconds the hub may take to answer.
    type: int
    default: 20
attributes:
  check_mode:
    support: full
    description: Changes nothing in either mode.
author:
  - vllm-fleet contributors
"""

EXAMPLES = r"""
- name: Look at the models
  model_store_facts:
    models: [{id: BAAI/bge-m3, revision: null, copy_from: null, path: /var/lib/vllm-fleet/models/BAAI--bge-m3}]
    user: vllm
    endpoint: https://huggingface.co
"""

RETURN = r"""
findings:
  description: >-
    What keeps the models from being served, each with a stable code, a severity, and a message with its remedy.
  returned: always
  type: list
  elements: dict
disk_needs:
  description: What downloads and copies put where, as owner, path, bytes, mount point and bytes free there.
  returned: always
  type: list
  elements: dict
to_fetch:
  description: Models to download or verify.
  returned: always
  type: list
  elements: dict
to_copy:
  description: Models to copy from the controller.
  returned: always
  type: list
  elements: dict
"""

import json  # noqa: E402
import os  # noqa: E402
import pwd  # noqa: E402
import urllib.error  # noqa: E402
import urllib.request  # noqa: E402
from pathlib import Path  # noqa: E402

from ansible.module_utils.basic import AnsibleModule  # noqa: E402
from ansible.module_utils.findings import disk_need, error, room_findings  # noqa: E402

MANIFEST = ".vllm-fleet-manifest.json"
SEEN = ".vllm-fleet-verified.json"
ROOM = "Make room, or move model_store_root to a larger file system."
NOBODY = 65534


def read_json(path):
    """Return the mapping in a JSON file, an empty one where there is none."""
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def untouched(directory, manifest, seen):
    """Whether the files of a manifest are those that were verified, by size and time."""
    files = manifest.get("files", {})
    if not files or set(files) != set(seen):
        return False
    for name in files:
        try:
            stat = (directory / name).stat()
        except OSError:
            return False
        if seen[name][:2] != [stat.st_size, stat.st_mtime_ns]:
            return False
    return True


def complete(model, directory, manifest, seen):
    """Whether `directory` holds what `model` asks for."""
    if not untouched(directory, manifest, seen):
        return False
    if model["copy_from"]:
        return {name: entry[2:] for name, entry in seen.items()} == {
            name: [entry["size"], entry["mtime_ns"]] for name, entry in model["source"].items()
        }
    return manifest.get("id") == model["id"] and manifest.get("revision") == model["revision"]


def shards_missing(directory):
    """Return the weight files that an index in `directory` names and that are not there."""
    missing = []
    for index in sorted(directory.glob("*.index.json")):
        names = sorted(set(read_json(index).get("weight_map", {}).values()))
        missing += [name for name in names if not (directory / name).is_file()]
    return missing


def closed_files(directory):
    """Return what below `directory` this process cannot read."""
    closed = []
    for folder, _folders, names in os.walk(str(directory), onerror=lambda error: closed.append(error.filename)):
        for name in names:
            path = Path(folder, name)
            try:
                path.open("rb").close()
            except OSError:
                closed.append(str(path))
    return closed


def unreadable(directory, user):
    """Return what below `directory` the user, or nobody where there is no such user yet, cannot read.

    Tried in a process with that user's rights, since modes alone do not tell: directories above and access lists count.
    """
    try:
        account = pwd.getpwnam(user)
        uid, gid, groups = account.pw_uid, account.pw_gid, os.getgrouplist(user, account.pw_gid)
    except KeyError:
        uid, gid, groups = NOBODY, NOBODY, []
    receiver, sender = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.setgroups(groups)
            os.setgid(gid)
            os.setuid(uid)
            with os.fdopen(sender, "w") as pipe:
                json.dump(closed_files(directory), pipe)
        finally:
            os._exit(0)
    os.close(sender)
    with os.fdopen(receiver) as pipe:
        answer = pipe.read()
    os.waitpid(child, 0)
    return json.loads(answer) if answer else []  # nothing where this process may not change its user


def directory_findings(directory, user):
    """Return a finding for each thing that keeps `user` from serving the model in a directory of the host."""
    where = f"model {directory}"
    if not directory.is_dir():
        return [error("model-incomplete", f"{where}: no such directory. Put the model there, or declare a hub id.")]
    found = []
    if not (directory / "config.json").is_file():
        found.append(f"{where}: config.json is missing, so it is no complete model. Copy the whole directory.")
    weights = [path for pattern in ("*.safetensors", "*.bin", "*.pt") for path in directory.glob(pattern)]
    missing = shards_missing(directory)
    if missing:
        found.append(f"{where}: {', '.join(missing)} of its index are missing. Copy the whole directory.")
    elif not weights:
        found.append(f"{where}: there are no weights (*.safetensors). Copy the whole directory.")
    findings = [error("model-incomplete", sentence) for sentence in found]
    closed = unreadable(directory, user)
    if closed:
        shown = ", ".join(closed[:5]) + (f" and {len(closed) - 5} more" if len(closed) > 5 else "")
        findings.append(
            error(
                "model-unreadable",
                f"user {user} cannot read {shown}. Run: chmod -R a+rX {directory}, and see that every directory above "
                "is open (a+x).",
            )
        )
    return findings


def source_findings(model):
    """Return a finding if the directory on the controller is no model."""
    if "config.json" in model["source"]:
        return []
    return [
        error(
            "model-source",
            f"model {model['id']}: {model['copy_from']} on the controller holds no config.json. Correct copy_from, or "
            "make the model first.",
        )
    ]


def refusal(status, code, model, endpoint, token):
    """Return a finding for an HTTP status of the hub; `code` is its own name for the error."""
    rights = "the token in model_store_token" if token else "a request without a token (model_store_token is empty)"
    name = model["id"]
    if code == "GatedRepo":
        message = (
            f"model {name} is gated, and {endpoint} refuses {rights}. Accept its terms at {endpoint}/{name} with the "
            "token's account, and give the token the right to read gated repositories."
        )
    elif code == "RevisionNotFound":
        message = f"model {name}: {endpoint} has no revision {model['revision']} of it. Correct 'revision'."
    elif status in (401, 404) or code == "RepoNotFound":
        message = f"model {name}: {endpoint} has no such model, or hides it from {rights}. Check its spelling."
    elif status == 403:
        message = f"model {name}: {endpoint} refuses {rights} (403). Give the token the right to read it."
    else:
        return error(
            "hub-unreachable",
            f"model {name}: {endpoint} answered {status}. Run again later, or declare another model_store_endpoint.",
        )
    return error("model-refused", message)


def hub_findings(model, endpoint, token, timeout):
    """Ask the hub about a model that is to be downloaded: (findings, bytes at least to fetch)."""
    endpoint = endpoint.rstrip("/")
    url = f"{endpoint}/api/models/{model['id']}/revision/{model['revision'] or 'main'}?blobs=true"
    if not endpoint.startswith(("https://", "http://")):
        message = f"model_store_endpoint is {endpoint!r}, not an http(s) URL. Correct it."
        return [error("hub-unreachable", message)], 0
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {token}"} if token else {})  # noqa: S310
    try:
        with urllib.request.urlopen(request, timeout=timeout) as answer:  # noqa: S310 - http(s) by the test above
            files = {entry["rfilename"]: entry.get("size") or 0 for entry in json.load(answer)["siblings"]}
    except urllib.error.HTTPError as problem:
        return [refusal(problem.code, problem.headers.get("X-Error-Code"), model, endpoint, token)], 0
    except OSError as problem:
        message = (
            f"model {model['id']}: {endpoint} cannot be reached from here: {getattr(problem, 'reason', problem)}. Set "
            "model_store_environment for a proxy or a certificate authority, model_store_endpoint for a mirror, or "
            "copy_from to bring the model from the controller."
        )
        return [error("hub-unreachable", message)], 0
    except (ValueError, KeyError, TypeError):
        message = f"model {model['id']}: {endpoint} does not answer like a model hub. Correct model_store_endpoint."
        return [error("hub-unreachable", message)], 0
    weights = [size for name, size in files.items() if name.endswith(".safetensors")]
    return [], sum(weights or [size for name, size in files.items() if name.endswith(".bin") and "/" not in name])


def main():
    """Run the module."""
    module = AnsibleModule(
        {
            "models": {"type": "list", "elements": "dict", "required": True},
            "user": {"type": "str", "required": True},
            "verify": {"type": "str", "choices": ["quick", "full"], "default": "quick"},
            "endpoint": {"type": "str", "required": True},
            "token": {"type": "str", "default": "", "no_log": True},
            "timeout": {"type": "int", "default": 20},
        },
        supports_check_mode=True,
    )
    params = module.params
    findings, needs, fetch, copy = [], [], [], []
    for model in params["models"]:
        directory = Path(model["path"])
        manifest, seen = read_json(directory / MANIFEST), read_json(directory / SEEN)
        finished = params["verify"] == "quick" and complete(model, directory, manifest, seen)
        if model["id"] is None or finished:
            findings += directory_findings(directory, params["user"])
        elif model["copy_from"]:
            findings += source_findings(model)
            if not manifest:
                needs.append(
                    disk_need("model_store", directory, sum(entry["size"] for entry in model["source"].values()))
                )
            copy.append({key: value for key, value in model.items() if key != "source"})
        else:
            # A hub that does not answer is asked once, not once per model.
            silent = any(one["code"] == "hub-unreachable" for one in findings)
            asked = ([], 0) if silent else hub_findings(model, params["endpoint"], params["token"], params["timeout"])
            findings += asked[0]
            have = (
                sum(path.stat().st_size for path in directory.rglob("*") if path.is_file()) if directory.is_dir() else 0
            )
            needs.append(disk_need("model_store", directory, max(0, asked[1] - have)))
            fetch.append(model)
    findings += room_findings(needs, ROOM)
    module.exit_json(changed=False, findings=findings, disk_needs=needs, to_fetch=fetch, to_copy=copy)


if __name__ == "__main__":
    main()
