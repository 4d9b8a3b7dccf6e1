"""A unit in the sandbox of the model servers cannot read another's secret, even where modes would let it.

A shell stands in for vLLM: it runs as the servers' user with the very lines of their units.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import yaml

from tests.integration.conftest import ROOT, LabHost

pytestmark = pytest.mark.integration

VARS = yaml.safe_load((ROOT / "roles/model_server/vars/main.yml").read_text())
SANDBOX = [f"--property={line}" for line in VARS["__model_server_devices"]["cpu"] + VARS["__model_server_hardening"]]
USER, OTHER_USER = "games", "news"
NEIGHBOUR, STRANGER = "neighbour.service", "stranger.service"
SECRET = "not for everybody"
# Readable by all, as no role leaves them: what keeps them from a server is then its sandbox alone.
FILES = ("/etc/vllm-fleet/api_key", "/etc/vllm-gateway/maps/keys.map", "/run/vllm-gateway/state")
SETUP = f"""
set -e
for file in {" ".join(FILES)}; do
  mkdir -p "$(dirname $file)" && echo '{SECRET}' > $file
done
chmod -R a+rX /etc/vllm-fleet /etc/vllm-gateway /run/vllm-gateway
"""
CONNECT = "import socket; socket.socket(socket.AF_UNIX).connect('/run/vllm-gateway/admin.sock')"
LISTEN = "import socket, time; s = socket.socket(socket.AF_UNIX); s.bind('/run/vllm-gateway/admin.sock'); s.listen(); "


@pytest.fixture(scope="module")
def secrets(lab_host: LabHost) -> Iterator[LabHost]:
    """A host with the secrets of others: files, a socket, another server's credential, and a process's environment."""
    lab_host.read("sh", "-c", SETUP)
    start = ("systemd-run", "--quiet", "--collect")
    key = f"--property=LoadCredential=api_key:{FILES[0]}"
    lab_host.read(*start, f"--unit={NEIGHBOUR}", f"--uid={USER}", key, *SANDBOX, "sleep", "infinity")
    lab_host.read(*start, f"--unit={STRANGER}", f"--uid={OTHER_USER}", f"--setenv=KEY={SECRET}", "sleep", "infinity")
    opened = "import os; os.umask(0); " + LISTEN + "time.sleep(9999)"
    lab_host.read(*start, "--unit=admin-socket.service", "python3", "-c", opened)
    yield lab_host
    lab_host.do("systemctl", "stop", NEIGHBOUR, STRANGER, "admin-socket.service")
    lab_host.do("rm", "-r", "/etc/vllm-gateway", "/run/vllm-gateway", FILES[0])


def inside(host: LabHost, *command: str, sandbox: bool = True) -> str:
    """Run a command as a model server would be run, with a credential of its own; return what it printed."""
    words = ["systemd-run", "--quiet", "--wait", "--pipe", "--collect", f"--uid={USER}", "--service-type=exec"]
    own = [f"--property=LoadCredential=api_key:{FILES[0]}", *SANDBOX] if sandbox else []
    return host.do(*words, *own, *command).output


def pid(host: LabHost, unit: str) -> str:
    return host.read("systemctl", "show", "--value", "--property=MainPID", unit)


@pytest.mark.parametrize("file", FILES)
def test_keys_and_the_gateways_files_are_out_of_reach(secrets: LabHost, file: str) -> None:
    assert SECRET in inside(secrets, "cat", file, sandbox=False), "the test would prove nothing"
    said = inside(secrets, "cat", file)
    assert SECRET not in said
    assert "Permission denied" in said, said


def test_the_socket_that_commands_the_gateway_is_out_of_reach(secrets: LabHost) -> None:
    assert inside(secrets, "python3", "-c", CONNECT, sandbox=False) == "", "the test would prove nothing"
    assert "PermissionError" in inside(secrets, "python3", "-c", CONNECT)


def test_another_servers_credential_is_out_of_reach_and_its_own_is_not(secrets: LabHost) -> None:
    assert secrets.read("cat", f"/run/credentials/{NEIGHBOUR}/api_key") == SECRET
    assert "No such file" in inside(secrets, "cat", f"/run/credentials/{NEIGHBOUR}/api_key")
    assert inside(secrets, "sh", "-c", 'cat "$CREDENTIALS_DIRECTORY/api_key"').strip() == SECRET


def test_processes_of_other_users_are_not_even_seen(secrets: LabHost) -> None:
    said = inside(secrets, "cat", f"/proc/{pid(secrets, STRANGER)}/environ")
    assert SECRET not in said
    assert "No such file" in said, said


def test_systemd_rates_the_sandbox_as_the_documentation_says(secrets: LabHost) -> None:
    rated = secrets.do("systemd-analyze", "security", "--no-pager", NEIGHBOUR).output.splitlines()[-1]
    assert float(rated.split(":")[1].split()[0]) < 3.0, rated
