"""Action of gateway_secrets: on the controller, as the user who runs Ansible, whatever host a task is for."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleActionFail, AnsibleError
from ansible.plugins.action import ActionBase

ROOT = Path(__file__).resolve().parents[2]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

from vllm_fleet.errors import FleetError  # noqa: E402 - found by the path set above
from vllm_fleet.gateway import certificates, keys  # noqa: E402

ARGUMENTS: dict[str, Any] = {
    "directory": {"type": "path", "required": True},
    "keys": {"type": "list", "elements": "str", "default": []},
    "keys_on_gateway": {"type": "list", "elements": "str", "default": []},
    "certificate_names": {"type": "list", "elements": "str", "default": []},
    "certificate_on_gateway": {"type": "bool", "default": False},
    "certificate_file": {"type": "str", "default": ""},
    "certificate_key_file": {"type": "str", "default": ""},
}


class ActionModule(ActionBase):  # type: ignore[misc] # Ansible is not typed
    """Get a gateway's secrets, and make those that are nowhere."""

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Run the action.

        A task needs no ``no_log``, which would hide the reason of a failure as well.
        """
        result: dict[str, Any] = super().run(tmp, task_vars)
        _validation, arguments = self.validate_argument_spec(ARGUMENTS)
        arguments["directory"] = Path(arguments["directory"])
        arguments["names"] = [str(name) for name in arguments["certificate_names"]]
        try:
            found = self._keys(arguments)
            served = self._certificate(arguments, str((task_vars or {})["inventory_hostname"]))
        except FleetError as error:
            raise AnsibleActionFail(str(error)) from None
        missing = served is None and bool(arguments["names"]) and not arguments["certificate_file"]
        return result | {
            "changed": bool(found.made or (served and served.made)),
            "keys": {name: list(secrets) for name, secrets in found.secrets.items()},
            "made": list(found.made),
            "missing": list(found.missing),
            "certificate": served.pem if served else None,
            "certificate_made": served.made if served else None,
            "certificate_missing": missing,
            "ca": served.ca if served else None,
            "ca_file": str(served.ca_file) if served and served.ca_file else None,
            "warnings": [*found.warnings, *(served.warnings if served else ())],
            "_ansible_no_log": True,
        }

    def _keys(self, arguments: dict[str, Any]) -> keys.Keys:
        wanted = [str(name) for name in arguments["keys"]]
        elsewhere = [str(name) for name in arguments["keys_on_gateway"]]
        return keys.ensure(arguments["directory"], wanted, elsewhere, dry=self._task.check_mode)

    def _certificate(self, arguments: dict[str, Any], host: str) -> certificates.Served | None:
        file, key_file, names = arguments["certificate_file"], arguments["certificate_key_file"], arguments["names"]
        if file:
            return certificates.given(
                self._text(file, "gateway_certificate"),
                self._text(key_file or file, "gateway_certificate_key"),
                names,
                file,
                key_file or file,
            )
        if key_file:
            raise FleetError(f"There is a private key, {key_file}, and no certificate. Set gateway_certificate, too.")
        if not names:
            return None
        elsewhere = arguments["certificate_on_gateway"]
        return certificates.own(arguments["directory"], host, names, elsewhere, dry=self._task.check_mode)

    def _text(self, file: str, variable: str) -> str:
        """Return a file of the user's, decrypted where Ansible Vault encrypted it."""
        try:
            return str(self._loader.get_text_file_contents(str(file)))
        except AnsibleError as error:
            reason = getattr(error.__cause__, "strerror", None) or error.message
            raise FleetError(f"{variable}: {file} cannot be read on the controller: {reason}") from None
