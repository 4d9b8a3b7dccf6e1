"""What is read of a model's directory, and what is said of one that is no complete model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.load import load
from tests.unit.model_files.made import CONFIG, model, shard

filters = load("plugins/filter/model_files.py")
facts = load("plugins/modules/model_facts.py")
ONE_FILE: dict[str, bytes | None] = {
    "model.safetensors.index.json": None,
    "model-00001-of-00002.safetensors": None,
    "model-00002-of-00002.safetensors": None,
}


def put(directory: Path, files: dict[str, bytes]) -> str:
    for name, content in files.items():
        (directory / name).write_bytes(content)
    return str(directory)


def read(directory: Path, **files: bytes | None) -> Any:
    answer = filters.model_description(put(directory, model(**files)))
    assert answer["reason"] is None
    return answer["description"]


def reason(directory: Path, **files: bytes | None) -> str:
    answer = filters.model_description(put(directory, model(**files)))
    assert answer["description"] is None
    return str(answer["reason"])


def test_a_model_in_shards_is_described(tmp_path: Path) -> None:
    described = read(tmp_path)
    sizes = {f"model-0000{n}-of-00002.safetensors": 0 for n in (1, 2)}
    sizes = {name: (tmp_path / name).stat().st_size for name in sizes}
    assert described == {
        "source": "controller",
        "config": CONFIG,
        "tokenizer_config": {"chat_template": "old", "tokenizer_class": "Qwen2Tokenizer"},
        "chat_template": "old",
        "generation_config": None,
        "max_seq_length": None,
        "sentence_transformer": False,
        "weights": [
            {
                "name": "model.layers.#.mlp.up_proj.weight",
                "shape": [8, 8],
                "dtype": "BF16",
                "count": 4,
                "layers": [[0, 3, 1]],
            }
        ],
        "files": sizes,
        "total_bytes": sum(sizes.values()),
    }


def listed(*entries: dict[str, str]) -> bytes:
    return json.dumps({"chat_template": entries}).encode()


@pytest.mark.parametrize(
    ("files", "template"),
    [
        ({}, "old"),
        ({"chat_template_jinja": b"new"}, "new"),
        ({"chat_template_json": b'{"chat_template": "other"}'}, "other"),
        ({"tokenizer_config_json": b"{}"}, ""),
        ({"tokenizer_config_json": None}, ""),
        (
            {
                "tokenizer_config_json": listed(
                    {"name": "default", "template": "plain"}, {"name": "tool_use", "template": "with tools"}
                )
            },
            "with tools",
        ),
    ],
)
def test_the_chat_template_that_vllm_takes(tmp_path: Path, files: dict[str, bytes | None], template: str) -> None:
    assert read(tmp_path, **files)["chat_template"] == template


def test_sentence_transformers_files_say_how_to_pool_and_how_long(tmp_path: Path) -> None:
    modules = [{"type": "sentence_transformers.models.Transformer"}, {"type": "sentence_transformers.models.Pooling"}]
    files = {"modules_json": json.dumps(modules).encode(), "sentence_bert_config_json": b'{"max_seq_length": 8192}'}
    described = read(tmp_path, **files)
    assert (described["sentence_transformer"], described["max_seq_length"]) == (True, 8192)


@pytest.mark.parametrize(
    ("added", "weight_files"),
    [
        ({"model.safetensors": shard(range(1)), "consolidated.safetensors": shard(range(9))}, ["model.safetensors"]),
        ({"consolidated.safetensors": shard(range(1))}, ["consolidated.safetensors"]),
        (
            {"pytorch_model.bin": b"12345", "colbert_linear.pt": b"1", "training_args.bin": b"1"},
            ["pytorch_model.bin"],
        ),
    ],
)
def test_the_weights_that_vllm_takes(tmp_path: Path, added: dict[str, bytes], weight_files: list[str]) -> None:
    described = read(tmp_path, **{**ONE_FILE, **added})
    assert list(described["files"]) == weight_files
    assert bool(described["weights"]) == weight_files[0].endswith(".safetensors")


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"config_json": None}, "there is no config.json"),
        ({"config_json": b"{"}, "config.json is no JSON"),
        ({"config_json": b"[]"}, "config.json holds no mapping"),
        ({"config_json": b"\xff"}, "config.json is no text"),
        ({"model-00002-of-00002.safetensors": None}, "names model-00002-of-00002.safetensors"),
        ({"model-00002-of-00002.safetensors": b"version https://git-lfs.github.com"}, "is no safetensors file"),
        ({"model-00002-of-00002.safetensors": shard(range(2))[:-1]}, "fetch it again"),
        ({"model-00002-of-00002.safetensors": shard(range(2), padding=100_000)[:70_000]}, "ends within its header"),
        ({"model.safetensors.index.json": b'{"weight_map": {}}'}, "names no files"),
        (ONE_FILE, "there are no weights"),
    ],
)
def test_what_is_no_complete_model_has_a_reason(tmp_path: Path, files: dict[str, bytes | None], expected: str) -> None:
    assert expected in reason(tmp_path, **files)


def test_a_directory_that_is_not_there_or_is_none_has_a_reason(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert filters.model_description(str(tmp_path / "none"))["reason"] == f"{tmp_path}/none is not there"
    assert "cannot be read: Not a directory" in filters.model_description(str(tmp_path / "file"))["reason"]


def test_the_module_answers_for_each_model_by_its_path(tmp_path: Path) -> None:
    path = put(tmp_path, model())
    wanted = [{"model": None, "path": path, "revision": None}, {"model": "a/b", "path": "/nowhere", "revision": None}]
    described, unread = facts.read(wanted, None)
    assert list(described) == [path]
    assert described[path]["source"] == "directory"
    assert unread == {"/nowhere": "/nowhere is not there"}
