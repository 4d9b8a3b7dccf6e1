"""What is left to do on a host, as data that the role's tasks work off."""

from __future__ import annotations

from pathlib import Path

from ansible.module_utils.nvidia_driver import packages


def differing(root, files):
    """Return those of `files` (path, content) that are not on the host as they should be."""
    wrong = []
    for file in files:
        path = Path(root, file["path"].lstrip("/"))
        if not path.is_file() or path.read_text(errors="replace") != file["content"]:
            wrong.append(file)
    return wrong


def unprepared(root, prepare):
    """Return the commands of those entries of `prepare` whose file does not show that they have run."""
    commands = []
    for entry in prepare:
        path = Path(root, entry["file"].lstrip("/"))
        if not path.exists() or entry["shows"] not in path.read_text().splitlines():
            commands += entry["commands"]
    return commands


def stray(driver, version):
    """Return installed driver packages of another version than the driver, but for those that only pin."""
    return [
        name
        for name, full in sorted(driver.items())
        if "-pinning-" not in name
        and packages.DRIVER_VERSION.match(packages.upstream(full))
        and packages.upstream(full) != version
    ]


def transaction(data, wanted, driver, version, index, loose):
    """Return what to install in one step so that every package of the driver is of `version`; empty if all are.

    wanted: names that must be there in that version. loose: names that must be there in any.
    """
    moving = [name for name in stray(driver, version) if packages.full_version(index, name, version)]
    missing = [name for name in wanted if packages.upstream(driver.get(name, "")) != version or not version]
    absent = [name for name in loose if name not in driver]
    if not moving and not missing and not absent:
        return []
    # All of them are named, whatever moves: what is not named may stay behind.
    named = list(dict.fromkeys(wanted + moving))
    return packages.specs(named, version, index, data["spec"]) + absent


def services(wanted, driver_loaded, show):
    """Return for each unit of `wanted` that is there whether to enable and to start it.

    show: function that returns systemd's properties of a unit.
    """
    todo = []
    for unit in wanted:
        properties = show(unit)
        if properties.get("LoadState") != "loaded":
            continue
        enable = properties.get("UnitFileState") != "enabled"
        start = driver_loaded and properties.get("ActiveState") != "active"
        if enable or start:
            todo.append({"unit": unit, "enable": enable, "start": start})
    return todo


def reboot_reasons(host, kernels, installed):
    """Return why the host must be rebooted before its driver works, or is gone after a removal."""
    nvidia, module = host.get("nvidia") or {}, (host.get("nvidia") or {}).get("module") or {}
    drivers = {gpu.get("driver") for gpu in host.get("pci_gpus") or []}
    if not installed:
        return (
            [f"the module {module.get('version') or 'nvidia'} of a removed driver is loaded"]
            if module.get("loaded")
            else []
        )
    if nvidia.get("nouveau_loaded") or "nouveau" in drivers:
        return ["nouveau holds the GPUs"]
    if nvidia.get("nova_loaded") or "nova_core" in drivers:
        return ["nova-core holds the GPUs"]
    if not module.get("loaded"):
        here = [kernel for kernel in kernels if kernel["release"] == host.get("kernel")]
        if not here or not here[0]["module"]:
            return [f"the running kernel {host.get('kernel')} has no nvidia module"]
        return ["the nvidia module is not loaded"]
    if module.get("version") and module["version"] != installed:
        return [f"the loaded module is {module['version']}, the installed driver {installed}"]
    if module.get("open") is False:
        return ["the loaded module is the proprietary one"]
    return []


def pending(steps):
    """Say in words what `steps` will do."""
    said = []
    if steps["repair"]:
        said.append(f"finish the interrupted installation of {', '.join(steps['repair'])}")
    said += [f"write {file['path']}" for file in steps["repository_files"]]
    said += ["fetch the repository's key"] if steps["keyring"] else []
    said += [" ".join(command) for command in steps["prepare"]]
    for what in ("prerequisites", "headers", "pinning", "driver"):
        said += [f"install {', '.join(steps[what])}"] if steps[what] else []
    said += [f"write {file['path']}" for file in steps["files"]]
    said += [f"build the module for kernel {release}" for release in steps["build"]]
    said += [f"make the initramfs of kernel {release} anew" for release in steps["initramfs"]]
    said += [f"hold {', '.join(steps['hold'])}"] if steps["hold"] else []
    said += [f"enable or start {service['unit']}" for service in steps["services"]]
    said += ["load the module"] if steps["load"] else []
    said += [f"remove {', '.join(steps['remove'])}"] if steps["remove"] else []
    said += [f"remove {path}" for path in steps["remove_files"]]
    return said
