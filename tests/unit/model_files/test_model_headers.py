"""Headers of safetensors files: what they say, in short, and what is said of broken ones."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.load import load

load("plugins/filter/model_files.py")  # makes the package importable

from ansible.module_utils.model_files.errors import Unread  # noqa: E402
from ansible.module_utils.model_files.headers import header_bytes, summary, tensors  # noqa: E402


def header(**entries: Any) -> bytes:
    return json.dumps({"__metadata__": {"format": "pt"}, **entries}).encode()


def tensor(*shape: int, dtype: str = "F16", end: int = 0) -> dict[str, Any]:
    return {"dtype": dtype, "shape": list(shape), "data_offsets": [0, end]}


def test_tensors_that_differ_by_a_number_are_one_entry() -> None:
    names = [f"model.layers.{layer}.mlp.experts.{expert}.w1.weight" for layer in (0, 1, 2, 61) for expert in range(4)]
    found = dict.fromkeys(names[:-1], ("F8_E4M3", (4, 8)))
    assert summary({**found, "lm_head.weight": ("BF16", (16, 4)), "h.0.ln_2.weight": ("F32", (4,))}) == [
        {"name": "h.#.ln_2.weight", "shape": [4], "dtype": "F32", "count": 1, "layers": [[0, 0, 1]]},
        {"name": "lm_head.weight", "shape": [16, 4], "dtype": "BF16", "count": 1},
        {
            "name": "model.layers.#.mlp.experts.#.w1.weight",
            "shape": [4, 8],
            "dtype": "F8_E4M3",
            "count": 15,
            "layers": [[0, 2, 4], [61, 61, 3]],
        },
    ]


def test_metadata_is_no_tensor() -> None:
    assert tensors("m", header(a=tensor(2, 3, end=12)), 1000) == {"a": ("F16", (2, 3))}


@pytest.mark.parametrize(
    ("first", "size"),
    [(b"version https://git-lfs", None), (b"\x01", None), (b"", None), ((60).to_bytes(8, "little"), 60)],
)
def test_the_length_of_a_header_is_believed_within_reason(first: bytes, size: int | None) -> None:
    if size is None:
        with pytest.raises(Unread, match="m is no safetensors file"):
            header_bytes("m", first)
    else:
        assert header_bytes("m", first) == size


@pytest.mark.parametrize(
    "content",
    [
        *(b"{", b"[]", b"\xff\xff", b"{}" * 2),
        *(header(a=entry) for entry in ([], {"dtype": "F16"}, tensor(-1), {**tensor(1), "data_offsets": [1]})),
        header(a={**tensor(1), "shape": ["x"]}),
    ],
)
def test_a_header_that_makes_no_sense_is_a_reason(content: bytes) -> None:
    with pytest.raises(Unread, match="the header of m cannot be understood"):
        tensors("m", content, 1 << 30)


def test_a_file_that_was_cut_is_a_reason() -> None:
    content = header(a=tensor(100, 100, end=20_000))
    with pytest.raises(Unread, match=r"m has 5,000 of its 20,\d\d\d bytes: fetch it again"):
        tensors("m", content, 5_000)
