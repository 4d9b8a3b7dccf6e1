"""The role model_store on a real host, against a stand-in for a hub that misbehaves as hubs do."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.fake_hub import COMMIT, FakeHub, serve
from tests.integration.conftest import Done, LabHost, run

pytestmark = pytest.mark.integration

STORE = "/srv/models-test"
MODEL = f"{STORE}/org--model"
WEIGHTS = "model.safetensors"
FILES = {
    "config.json": b"{}",
    "generation_config.json": b'{"eos_token_id": [1, 2]}',
    "1_Pooling/config.json": b'{"pooling_mode_cls_token": true}',
    WEIGHTS: random.Random(1).randbytes(45_000_000),
    "pytorch_model.bin": b"x" * 5000,
}


@pytest.fixture(scope="module")
def host(lab_host: LabHost, tmp_path_factory: pytest.TempPathFactory) -> LabHost:
    """A host that has the runtime, whose Python downloads."""
    playbook = tmp_path_factory.mktemp("runtime") / "runtime.yml"
    playbook.write_text("- {hosts: gpu_hosts, gather_facts: false, roles: [vllm_runtime]}\n")
    done = run("ansible-playbook", playbook)
    assert done.status == 0, done.output[-3000:]
    return lab_host


@pytest.fixture
def gateway(host: LabHost) -> Iterator[str]:
    """This machine's address on the lab's network, and an empty store on the host."""
    yield host.read("ip", "route", "show", "default").split()[2]
    host.do("rm", "-rf", STORE)


def bring(tmp_path: Path, hub: FakeHub, **variables: Any) -> Done:
    """Run the role for one model."""
    model = {"id": "org/model", "revision": None, "copy_from": None, "path": MODEL, **variables.pop("model", {})}
    settings = {"model_store_root": STORE, "model_store_endpoint": hub.url, "model_store_stall_seconds": 2, **variables}
    role = {"role": "model_store", "model_store_models": [model], **settings}
    playbook = tmp_path / "models.json"
    playbook.write_text(json.dumps([{"hosts": "gpu_hosts", "gather_facts": False, "roles": [role]}]))
    return run("ansible-playbook", playbook)


def downloads(hub: FakeHub) -> dict[str, str | None]:
    """Which files were asked for, with the Range of the last time."""
    return {path.partition(f"/resolve/{COMMIT}/")[2]: ranges for _, path, ranges in hub.log if "/resolve/" in path}


def manifest_of(host: LabHost) -> dict[str, Any]:
    return dict(json.loads(host.read("cat", f"{MODEL}/.vllm-fleet-manifest.json")))


def test_a_model_is_fetched_once_and_is_readable_to_the_service_user(
    host: LabHost, gateway: str, tmp_path: Path
) -> None:
    with serve(FakeHub(FILES), gateway) as hub:
        first = bring(tmp_path, hub)
        assert first.status == 0, first.output
        assert set(downloads(hub)) == set(FILES) - {"pytorch_model.bin"}
        hub.log.clear()
        second = bring(tmp_path, hub)
        assert "changed=0" in second.output, second.output
        assert hub.log == [], "a complete model needs no hub"
    manifest = manifest_of(host)
    assert manifest["commit"] == COMMIT
    assert manifest["files"][WEIGHTS]["size"] == len(FILES[WEIGHTS])
    host.read("runuser", "-u", "vllm", "--", "cat", f"{MODEL}/1_Pooling/config.json")


def test_only_a_truncated_file_is_fetched_again(host: LabHost, gateway: str, tmp_path: Path) -> None:
    with serve(FakeHub(FILES), gateway) as hub:
        assert bring(tmp_path, hub).status == 0
        host.read("truncate", "--size=1000", f"{MODEL}/{WEIGHTS}")
        hub.log.clear()
        done = bring(tmp_path, hub)
        assert done.status == 0, done.output
        assert set(downloads(hub)) == {WEIGHTS}
    assert host.read("stat", "--format=%s", f"{MODEL}/{WEIGHTS}") == str(len(FILES[WEIGHTS]))


def test_a_download_that_stands_still_goes_on_from_where_it_was(host: LabHost, gateway: str, tmp_path: Path) -> None:
    with serve(FakeHub(FILES, stall_after=25_000_000, stall_seconds=8), gateway) as hub:
        done = bring(tmp_path, hub)
        assert done.status == 0, done.output
        assert (downloads(hub)[WEIGHTS] or "").startswith("bytes=")


def test_a_killed_download_is_not_complete_and_is_resumed(host: LabHost, gateway: str, tmp_path: Path) -> None:
    fetch = (
        "/opt/vllm-fleet/current/bin/python",
        "/opt/vllm-fleet/lib/fetch_model.py",
        "--id=org/model",
        f"--path={MODEL}",
    )
    with serve(FakeHub(FILES, stall_after=25_000_000, stall_seconds=20), gateway) as hub:
        killed = host.do("timeout", "--signal=KILL", "6", *fetch, f"--endpoint={hub.url}", "--stall=30")
        assert killed.status != 0
        assert host.do("test", "-e", f"{MODEL}/.vllm-fleet-manifest.json").status == 1
        hub.log.clear()
        done = bring(tmp_path, hub)
        assert done.status == 0, done.output
        assert (downloads(hub)[WEIGHTS] or "").startswith("bytes=")
    assert manifest_of(host)["files"][WEIGHTS]["size"] == len(FILES[WEIGHTS])


def test_content_that_is_not_what_the_hub_promises_is_refused(host: LabHost, gateway: str, tmp_path: Path) -> None:
    with serve(FakeHub(FILES, wrong={WEIGHTS}), gateway) as hub:
        done = bring(tmp_path, hub)
    assert done.status != 0
    assert f"{WEIGHTS} has another content than the hub" in done.output
    assert host.do("test", "-e", f"{MODEL}/.vllm-fleet-manifest.json").status == 1


def test_a_gated_model_is_refused_before_anything_changes_and_its_token_stays_secret(
    host: LabHost, gateway: str, tmp_path: Path
) -> None:
    with serve(FakeHub(FILES, gated={"org/model"}), gateway) as hub:
        refused = bring(tmp_path, hub)
        assert "org/model is gated" in refused.output
        assert host.do("test", "-e", STORE).status == 1
        done = bring(tmp_path, hub, model_store_token="good")
        assert done.status == 0, done.output
    assert host.do("journalctl", "--quiet", "--output=cat", "--grep=Bearer|token=good").output == ""
    assert host.read("find", "/run/vllm-fleet/jobs", "-type", "f") == "", "the token is removed after the download"


def test_a_full_disk_is_found_before_the_download(host: LabHost, gateway: str, tmp_path: Path) -> None:
    host.read("mkdir", "-p", STORE)
    host.read("mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", STORE)
    try:
        with serve(FakeHub(FILES), gateway) as hub:
            done = bring(tmp_path, hub)
            assert done.status != 0
            assert "GB needed" in done.output
            assert downloads(hub) == {}
    finally:
        host.read("umount", STORE)


def test_a_copy_follows_its_source_in_content_and_removals(host: LabHost, gateway: str, tmp_path: Path) -> None:
    source = tmp_path / "model"
    source.mkdir()
    for name, content in {"config.json": b"{}", WEIGHTS: b"weights", "old.txt": b"old"}.items():
        (source / name).write_bytes(content)
    hub = FakeHub({})
    copied = {"model": {"copy_from": str(source)}}
    assert bring(tmp_path, hub, **copied).status == 0
    assert "changed=0" in bring(tmp_path, hub, **copied).output
    (source / WEIGHTS).write_bytes(b"WEIGHTS")
    (source / "old.txt").unlink()
    done = bring(tmp_path, hub, **copied)
    assert done.status == 0, done.output
    assert host.read("cat", f"{MODEL}/{WEIGHTS}") == "WEIGHTS"
    assert set(manifest_of(host)["files"]) == {"config.json", WEIGHTS}
    assert host.do("test", "-e", f"{MODEL}/old.txt").status == 1


def test_a_directory_of_the_host_that_the_user_cannot_read_is_named(
    host: LabHost, gateway: str, tmp_path: Path
) -> None:
    host.read("mkdir", "-p", MODEL)
    for name in ("config.json", WEIGHTS):
        host.read("install", "--mode=0600", "/etc/hostname", f"{MODEL}/{name}")
    done = bring(tmp_path, FakeHub({}), model={"id": None})
    assert done.status != 0
    assert f"user vllm cannot read {MODEL}/" in done.output
    host.read("chmod", "-R", "a+rX", MODEL)
    assert "changed=0" in bring(tmp_path, FakeHub({}), model={"id": None}).output
