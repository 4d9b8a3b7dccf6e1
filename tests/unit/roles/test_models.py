"""When a model on a host counts as complete, which files are fetched, and what is said of everything else."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import pytest

from tests.fake_hub import FakeHub, serve
from tests.load import load

facts = load("plugins/modules/model_store_facts.py")
manifests = load("plugins/modules/model_manifest.py")
fetcher = load("roles/model_store/files/fetch_model.py")
directory_filters = load("plugins/filter/model_directory.py")

HUB_MODEL = {"id": "org/model", "revision": None, "copy_from": None, "path": "/nowhere"}


def remote(path: str, content: bytes = b"", large: bool = False) -> Any:
    blob = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
    return fetcher.RemoteFile(path, len(content), hashlib.sha256(content).hexdigest() if large else None, blob)


def kept(*paths: str) -> list[str]:
    return [file.path for file in fetcher.select_files(remote(path) for path in paths)]


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A model directory as a download leaves it."""
    files = {"config.json": b"{}", "model.safetensors": b"weights"}
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    manifest = {"id": "org/model", "revision": None, "commit": "c", "files": {name: {} for name in files}}
    (tmp_path / facts.MANIFEST).write_text(json.dumps(manifest))
    (tmp_path / facts.SEEN).write_text(json.dumps(fetcher.seen(tmp_path, files)))
    return tmp_path


def is_complete(directory: Path, **changes: Any) -> bool:
    manifest, seen = facts.read_json(directory / facts.MANIFEST), facts.read_json(directory / facts.SEEN)
    return bool(facts.complete({**HUB_MODEL, **changes}, directory, manifest, seen))


def test_whoever_writes_or_reads_a_manifest_means_the_same_file() -> None:
    assert {facts.MANIFEST, fetcher.MANIFEST, manifests.MANIFEST} == {".vllm-fleet-manifest.json"}
    assert facts.SEEN == fetcher.SEEN == manifests.SEEN


def test_a_download_that_ended_is_complete(model: Path) -> None:
    assert is_complete(model)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", facts.MANIFEST, facts.SEEN])
def test_a_model_that_lacks_a_file_is_not_complete(model: Path, name: str) -> None:
    (model / name).unlink()
    assert not is_complete(model)


def test_a_truncated_file_is_noticed(model: Path) -> None:
    (model / "model.safetensors").write_bytes(b"wei")
    assert not is_complete(model)


def test_a_rewritten_file_of_the_same_size_is_noticed(model: Path) -> None:
    os.utime(model / "model.safetensors", ns=(1, 1))
    assert not is_complete(model)


def test_another_revision_is_another_model(model: Path) -> None:
    assert not is_complete(model, revision="abc")


def test_a_copy_is_complete_until_its_source_changes(model: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    source = tmp_path_factory.mktemp("source")
    for name in ("config.json", "model.safetensors"):
        (source / name).write_bytes((model / name).read_bytes())
    (asked,) = directory_filters.with_sources([{**HUB_MODEL, "copy_from": str(source)}])
    seen = facts.read_json(model / facts.SEEN)
    for name, entry in asked["source"].items():
        seen[name] += [entry["size"], entry["mtime_ns"]]
    manifest = facts.read_json(model / facts.MANIFEST)
    assert facts.complete(asked, model, manifest, seen)
    (source / "config.json").write_bytes(b"[]")
    (asked,) = directory_filters.with_sources([{**HUB_MODEL, "copy_from": str(source)}])
    assert not facts.complete(asked, model, manifest, seen)


def test_pickled_weights_are_left_out_only_beside_safetensors() -> None:
    assert kept("model.safetensors", "pytorch_model.bin") == ["model.safetensors"]
    assert kept("pytorch_model.bin", "colbert_linear.pt") == ["pytorch_model.bin", "colbert_linear.pt"]


def test_files_that_decide_how_a_model_answers_are_fetched() -> None:
    names = ["generation_config.json", "tokenizer.json", "chat_template.jinja", "modules.json", "1_Pooling/config.json"]
    assert kept("model.safetensors", *names)[1:] == names


def test_weights_for_other_programs_are_left_out() -> None:
    assert kept("onnx/model.onnx", "onnx/model.onnx_data", "tf_model.h5", "model.gguf", "openvino/model.bin") == []


@pytest.mark.parametrize("large", [True, False])
def test_a_file_is_right_only_with_the_hubs_own_hash(tmp_path: Path, large: bool) -> None:
    file = remote("x", b"content", large)
    (tmp_path / "x").write_bytes(b"content")
    assert fetcher.matches(tmp_path / "x", file) == hashlib.sha256(b"content").hexdigest()
    (tmp_path / "x").write_bytes(b"CONTENT")
    assert fetcher.matches(tmp_path / "x", file) is None
    assert fetcher.matches(tmp_path / "y", file) is None


def test_a_shard_that_the_index_names_and_nobody_copied_is_named(model: Path) -> None:
    index = {"weight_map": {"a": "model-1.safetensors", "b": "model.safetensors"}}
    (model / "model.safetensors.index.json").write_text(json.dumps(index))
    (found,) = facts.directory_findings(model, "root")
    assert found["code"] == "model-incomplete"
    assert "model-1.safetensors" in found["message"]


def test_a_path_that_is_no_model_is_said_to_be_none(tmp_path: Path) -> None:
    assert "no such directory" in facts.directory_findings(tmp_path / "x", "root")[0]["message"]
    messages = " ".join(found["message"] for found in facts.directory_findings(tmp_path, "root"))
    assert "config.json is missing" in messages
    assert "no weights" in messages


def test_a_directory_of_the_controller_that_is_no_model_is_named(tmp_path: Path) -> None:
    (asked,) = directory_filters.with_sources([{**HUB_MODEL, "copy_from": str(tmp_path)}])
    (found,) = facts.source_findings(asked)
    assert found["code"] == "model-source"
    assert str(tmp_path) in found["message"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can look with another user's eyes")
def test_files_the_service_user_cannot_read_are_named(tmp_path: Path) -> None:
    shared = Path("/tmp").joinpath(f"vllm-fleet-test-{os.getpid()}")  # pytest's own directories are closed to others
    shared.mkdir(mode=0o755)
    try:
        (shared / "config.json").write_text("{}")
        (shared / "model.safetensors").write_text("w")
        assert facts.directory_findings(shared, "nobody") == []
        (shared / "model.safetensors").chmod(0o600)
        (found,) = facts.directory_findings(shared, "nobody")
        assert found["code"] == "model-unreadable"
        assert "model.safetensors" in found["message"]
        assert "chmod" in found["message"]
    finally:
        for path in shared.iterdir():
            path.unlink()
        shared.rmdir()


def asked(hub: FakeHub, token: str = "", **model: Any) -> tuple[list[str], int]:
    findings, size = facts.hub_findings({**HUB_MODEL, **model}, hub.url, token, 5)
    return [f"{found['code']}: {found['message']}" for found in findings], int(size)


def test_the_hub_is_asked_for_the_size_before_a_download() -> None:
    with serve(FakeHub({"config.json": b"{}", "model.safetensors": b"x" * 5000})) as hub:
        assert asked(hub) == ([], 5000)


def test_a_gated_model_is_said_to_be_gated_with_the_page_to_accept() -> None:
    with serve(FakeHub({}, gated={"org/model"})) as hub:
        (sentence,), _ = asked(hub)
        assert "model-refused" in sentence
        assert "gated" in sentence
        assert f"{hub.url}/org/model" in sentence
        assert "model_store_token is empty" in sentence
        assert asked(hub, token="good")[0] == []


def test_an_unknown_model_and_an_unknown_revision_are_told_apart() -> None:
    with serve(FakeHub({})) as hub:
        assert "no such model" in asked(hub, id="org/other")[0][0]
        assert "no revision nope" in asked(hub, revision="nope")[0][0]


def test_a_hub_that_cannot_be_reached_is_named_with_the_variables_to_set() -> None:
    with serve(FakeHub({})) as hub:
        pass
    (sentence,), _ = asked(hub)
    assert "hub-unreachable" in sentence
    assert hub.url in sentence
    assert "model_store_environment" in sentence


def test_an_endpoint_that_is_no_hub_is_said_to_be_none() -> None:
    with serve(FakeHub({})) as hub:
        hub.information = lambda model: {"hello": "world"}  # type: ignore[method-assign]
        assert "does not answer like a model hub" in asked(hub)[0][0]


def test_a_hub_in_trouble_is_named_with_its_answer() -> None:
    assert "answered 503" in facts.refusal(503, None, HUB_MODEL, "https://hub.example", "")["message"]
