"""Packages of the driver: what is installed, what there is, and what to do to get from one to the other."""

from __future__ import annotations

import re

DRIVER_VERSION = re.compile(r"\d{3}\.\d+(\.\d+)?$")


def upstream(version):
    """Return NVIDIA's own version in a package's: 580.159.04 of 580.159.04-1ubuntu1 and of 3:580.159.04-1.el9."""
    return re.sub(r"^\d+:", "", version).split("-")[0]


def number(version):
    """Return a version as numbers, since as text 99 is greater than 580."""
    return [int(part) for part in re.findall(r"\d+", version)]


def branch_of(version):
    """Return the branch of a driver version: 580 of 580.159.04."""
    return version.split(".")[0]


def parse_list(text):
    """Read lines "NAME<tab>VERSION<tab>STATE" into {name: (version, state)}; state ii is a sound installation.

    Packages that are only known or whose configuration files are left are not in it.
    """
    found = {}
    for line in text.splitlines():
        fields = line.split("\t")
        if len(fields) == 3 and fields[2].strip()[1:2] not in ("", "n", "c"):
            found[fields[0]] = (fields[1], fields[2].strip())
    return found


def kernel_packages(text, pattern):
    """Return "NAME VERSION" of all packages in such lines whose name matches; several of one name are several."""
    rows = [line.split("\t") for line in text.splitlines()]
    return sorted(" ".join(row[:2]) for row in rows if re.match(pattern, row[0]) and row[2].strip()[1:2] == "i")


def parse_versions(text):
    """Read lines "NAME | VERSION | ORIGIN" into {name: [(version, origin)]}, the newest first."""
    found = {}
    for line in text.splitlines():
        fields = [field.strip() for field in line.split("|")]
        if len(fields) == 3:
            found.setdefault(fields[0], []).append((fields[1], fields[2]))
    for rows in found.values():
        rows.sort(key=lambda row: number(upstream(row[0])), reverse=True)
    return found


def parse_deb_index(text, origin):
    """Read a Packages file of a deb repository into the form of parse_versions."""
    rows, name = [], ""
    for line in text.splitlines():
        if line.startswith("Package: "):
            name = line[9:].strip()
        elif line.startswith("Version: "):
            rows.append(f"{name} | {line[9:].strip()} | {origin}")
    return parse_versions("\n".join(rows))


def of_driver(installed, names, not_names):
    """Return those of the installed packages that belong to the driver, as {name: version}."""
    mine, others = re.compile(re.sub(r"\s+", "", names)), re.compile(not_names)
    return {name: version for name, (version, _) in installed.items() if mine.match(name) and not others.match(name)}


def choose_version(wanted, installed, index, name):
    """Return the exact driver version to have, or an empty string while it is unknown.

    A pinned version is taken. An installed one of the wanted branch stays: only a pin moves a host within a branch.
    Otherwise it is the newest of the branch.
    """
    if wanted["version"]:
        return wanted["version"]
    if installed and branch_of(installed) == wanted["branch"]:
        return installed
    there = [upstream(version) for version, _ in index.get(name, [])]
    return max((version for version in there if branch_of(version) == wanted["branch"]), key=number, default="")


def full_version(index, name, version):
    """Return the package version of `name` whose upstream version is `version`, or an empty string."""
    return next((full for full, _ in index.get(name, []) if upstream(full) == version), "")


def specs(names, version, index, form):
    """Return what to ask the package manager for: exact versions where the index has them, else names."""
    found = {name: full_version(index, name, version) for name in names}
    return [form.replace("{name}", name).replace("{full}", full) if full else name for name, full in found.items()]


def without_version(names, version, index):
    """Return for each of `names` that the index does not have in `version`, which nearest versions it has."""
    lacking = {}
    for name in names:
        if full_version(index, name, version):
            continue
        there = {upstream(full) for full, _ in index.get(name, [])}
        same = [other for other in there if branch_of(other) == branch_of(version)]
        lacking[name] = sorted(same or there, key=number, reverse=True)[:3]
    return lacking


def origins(installed, versions):
    """Return {origin: [packages]} of installed packages that carry a driver version."""
    found = {}
    for name, version in sorted(installed.items()):
        if DRIVER_VERSION.match(upstream(version)):
            for full, origin in versions.get(name, []):
                if full == version:
                    found.setdefault(origin, []).append(name)
    return found


def headers_packages(data, kernels, installed):
    """Return the headers packages the host should have: of each kernel, and those that keep up with new kernels."""
    wanted = [name.replace("{release}", kernel) for kernel in kernels for name in data["headers"]]
    if data["follow"]["kernels"]:
        pattern = re.compile(data["follow"]["kernels"])
        flavours = [match[1] for match in map(pattern.match, sorted(installed)) if match]
        wanted += [data["follow"]["headers"].replace("{flavour}", flavour) for flavour in flavours]
    return wanted
