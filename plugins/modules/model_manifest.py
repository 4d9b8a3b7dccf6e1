#!/usr/bin/python
"""Ansible module: verify a copied model against the controller's hashes and write its manifest."""

from __future__ import annotations

DOCUMENTATION = r"""
module: model_manifest
short_description: Verify a copied model and write its manifest
description:
  - Compares every file with the controller's SHA-256, removes files the controller does not have, and writes the
    manifest last.
  - The manifest changes only when the content does.
options:
  path:
    description: Directory of the model.
    type: path
    required: true
  id:
    description: Name of the model.
    type: str
    required: true
  files:
    description: >-
      Size, modification time and SHA-256 of each file on the controller, as the filter C(directory_hashes) makes
      it.
    type: dict
    required: true
attributes:
  check_mode:
    support: full
    description: Compares and writes nothing.
author:
  - vllm-fleet contributors
"""

EXAMPLES = r"""
- name: Verify the copy
  model_manifest:
    path: /var/lib/vllm-fleet/models/org--model
    id: org/model
    files: "{{ '/srv/models/model' | directory_hashes }}"
"""

RETURN = r"""
removed:
  description: Files removed because the controller does not have them.
  returned: always
  type: list
  elements: str
"""

import hashlib  # noqa: E402
import json  # noqa: E402
import os  # noqa: E402
from pathlib import Path  # noqa: E402

from ansible.module_utils.basic import AnsibleModule  # noqa: E402

MANIFEST = ".vllm-fleet-manifest.json"
SEEN = ".vllm-fleet-verified.json"


def sha256(path):
    """Return the SHA-256 of a file."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        for chunk in iter(lambda: file.read(1 << 22), b""):
            digest.update(chunk)
    return digest.hexdigest()


def write_whole(path, text):
    """Write a file that is there entirely or not at all, even after a power failure."""
    temporary = path.with_name(path.name + ".new")
    with temporary.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def main():
    """Run the module."""
    module = AnsibleModule(
        {
            "path": {"type": "path", "required": True},
            "id": {"type": "str", "required": True},
            "files": {"type": "dict", "required": True},
        },
        supports_check_mode=True,
    )
    directory, files = Path(module.params["path"]), module.params["files"]
    manifest = {
        "id": module.params["id"],
        "revision": None,
        "commit": None,
        "files": {name: {"size": entry["size"], "sha256": entry["sha256"]} for name, entry in files.items()},
    }
    text = json.dumps(manifest, indent=1, sort_keys=True) + "\n"
    present = {str(path.relative_to(directory)) for path in directory.rglob("*") if path.is_file()} - {MANIFEST, SEEN}
    removed = sorted(present - set(files))
    current = (directory / MANIFEST).read_text(encoding="utf-8") if (directory / MANIFEST).exists() else ""
    changed = bool(removed) or current != text
    if module.check_mode:
        module.exit_json(changed=changed, removed=removed)
    wrong = [name for name in files if name not in present or sha256(directory / name) != files[name]["sha256"]]
    if wrong:
        (directory / MANIFEST).unlink(missing_ok=True)
        module.fail_json(
            msg=f"{', '.join(wrong)} in {directory} are not what the controller has. "
            "Did its directory change while it was copied? Run again."
        )
    for name in removed:
        (directory / name).unlink()
    seen = {}
    for name, entry in files.items():
        stat = (directory / name).stat()
        seen[name] = [stat.st_size, stat.st_mtime_ns, entry["size"], entry["mtime_ns"]]
    write_whole(directory / SEEN, json.dumps(seen, indent=1, sort_keys=True) + "\n")
    if current != text:
        write_whole(directory / MANIFEST, text)
    module.exit_json(changed=changed, removed=removed)


if __name__ == "__main__":
    main()
