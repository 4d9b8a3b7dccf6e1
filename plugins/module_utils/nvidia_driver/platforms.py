"""What a platform's data says: the entries that apply, merged, with names filled in."""

from __future__ import annotations

import re


def platform_data(system, platforms):
    """Merge the entries of `platforms` that apply to `system` (gpu_host.os), from general to special.

    Empty for a platform that no entry gives a directory of packages.
    """
    identity, version = system.get("id") or "", system.get("version_id") or ""
    major = version.split(".")[0]
    keys = []
    for like in reversed(system.get("id_like") or []):
        keys += [like, f"{like}-{major}"]
    keys += [identity, f"{identity}-{major}", f"{identity}-{version}"]
    data = {}
    for key in keys:
        data.update(platforms.get(key, {}))
    return {**data, "major": major} if "path" in data else {}


def supported(platforms):
    """Return the names of all supported platforms, for messages."""
    return sorted(name for name, data in platforms.items() if "path" in data)


def fill(value, names):
    """Replace {name} in all strings inside `value`; names that are not in `names` are left for later."""
    if isinstance(value, str):
        return re.sub(r"(?<![$%])\{(\w+)\}", lambda match: str(names.get(match[1], match[0])), value)
    if isinstance(value, list):
        return [fill(item, names) for item in value]
    if isinstance(value, dict):
        return {key: fill(item, names) for key, item in value.items()}
    return value


def resolve(data, machine, wanted):
    """Return the platform's data for a processor architecture and what is `wanted`, filled in but for kernels.

    wanted: branch, version, repository_url, keyring, manage_repo, secure_boot, as in the role's variables.
    """
    data = dict(data)
    if wanted["secure_boot"] == "presigned":
        data.update(data.get("presigned", {}))
    data.pop("presigned", None)
    if not wanted["manage_repo"]:
        data.update(repository_files=[], index="")
    arch = data["architectures"].get(machine, "")
    url = "/".join([wanted["repository_url"].rstrip("/"), data["path"], arch, ""])
    keyring = dict(data["keyring"])
    source = wanted["keyring"] or url + keyring["archive"]
    if not keyring["file"]:
        keyring["source"] = keyring["trusted"] = source
    else:
        if source.endswith(".asc"):  # apt tells the two forms of a key by the name of the file
            keyring["file"] = keyring["file"].rsplit(".", 1)[0] + ".asc"
        keyring.update(source=source, trusted=keyring["file"], is_archive=source.endswith(".deb"))
    data["keyring"] = keyring
    branch, version = wanted["branch"], wanted["version"]
    return fill(
        {**data, "url": url, "arch": arch},
        {
            "url": url,
            "arch": arch,
            "major": data["major"],
            "branch": branch,
            "version": version,
            "pin": version or branch,
            "keyring": keyring["trusted"],
        },
    )
