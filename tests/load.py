"""Import the files that Ansible sends to hosts, which belong to no package."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import ansible.module_utils

ROOT = Path(__file__).resolve().parents[1]
# Where Ansible finds them, too, by the module_utils of ansible.cfg.
ansible.module_utils.__path__.append(str(ROOT / "plugins/module_utils"))


def load(path: str) -> ModuleType:
    """Import a Python file by its path in the checkout; files beside it can be imported by it."""
    file = ROOT / path
    if str(file.parent) not in sys.path and "roles" in file.parts:
        sys.path.append(str(file.parent))
    spec = importlib.util.spec_from_file_location(file.stem, file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[file.stem] = module
    spec.loader.exec_module(module)
    return module
