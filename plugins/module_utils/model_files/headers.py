"""The header of a safetensors file: its tensors by name, and the short form in which they are reported.

The format: 8 bytes, the header's length as a little-endian number; the header, JSON; the tensors' bytes.
"""

from __future__ import annotations

import json
import re

from .errors import Unread

LENGTH_BYTES = 8
MOST_HEADER_BYTES = 100 << 20  # the limit of the safetensors library itself
NUMBER = re.compile(r"(?<![^.])\d+(?![^.])")


def header_bytes(name, first):
    """Return the length of a header from the first 8 bytes of a file."""
    length = int.from_bytes(first[:LENGTH_BYTES], "little")
    if len(first) < LENGTH_BYTES or not 2 <= length <= MOST_HEADER_BYTES:
        raise Unread(f"{name} is no safetensors file (an unfinished download, or a Git LFS pointer?)")
    return length


def tensors(name, header, file_bytes):
    """Return {tensor: (dtype, shape)} of a file from its header and its size in bytes."""
    try:
        entries = json.loads(header.decode("utf-8"))
        found = {}
        end = 0
        for tensor, entry in entries.items():
            if tensor == "__metadata__":
                continue
            shape = tuple(entry["shape"])
            if not all(isinstance(size, int) and size >= 0 for size in shape):
                raise ValueError(f"shape {shape!r}")
            found[tensor] = (str(entry["dtype"]), shape)
            end = max(end, int(entry["data_offsets"][1]))
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as problem:
        raise Unread(f"the header of {name} cannot be understood: {problem}") from None
    needed = LENGTH_BYTES + len(header) + end
    if file_bytes < needed:
        raise Unread(f"{name} has {file_bytes:,} of its {needed:,} bytes: fetch it again")
    return found


def summary(found):
    """Return the tensors in a short form: one entry for all that are alike but for the numbers in their names.

    An entry has ``name`` with # for each number, ``shape``, ``dtype``, ``count``, and, where there is a number,
    ``layers``: [first, last, tensors per value] for each run of values of the first number.
    """
    groups = {}
    for name, (dtype, shape) in found.items():
        numbers = NUMBER.findall(name)
        per_layer = groups.setdefault((NUMBER.sub("#", name), shape, dtype), {})
        layer = int(numbers[0]) if numbers else None
        per_layer[layer] = per_layer.get(layer, 0) + 1
    entries = []
    for (name, shape, dtype), per_layer in sorted(groups.items()):
        entry = {"name": name, "shape": list(shape), "dtype": dtype, "count": sum(per_layer.values())}
        if None not in per_layer:
            entry["layers"] = _runs(per_layer)
        entries.append(entry)
    return entries


def _runs(per_layer):
    runs = []
    for layer in sorted(per_layer):
        if runs and runs[-1][1] == layer - 1 and runs[-1][2] == per_layer[layer]:
            runs[-1][1] = layer
        else:
            runs.append([layer, layer, per_layer[layer]])
    return runs
