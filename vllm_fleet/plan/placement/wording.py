"""Devices, and what they can give, in words."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from vllm_fleet.plan.placement.parts import WHOLE, fraction
from vllm_fleet.plan.placement.site import Site
from vllm_fleet.plan.sentences import gib, listed


def gpus(indices: Iterable[int]) -> str:
    """Return GPUs for a sentence: GPU 3, GPUs 0 and 4, GPUs 0-3."""
    numbers = sorted(indices)
    if len(numbers) == 1:
        return f"GPU {numbers[0]}"
    if len(numbers) > 2 and numbers == list(range(numbers[0], numbers[-1] + 1)):
        return f"GPUs {numbers[0]}-{numbers[-1]}"
    return f"GPUs {listed(numbers)}"


def offers(site: Site, positions: Sequence[int], amounts: Sequence[int]) -> str:
    """Say what devices can give, in one where they are alike: GPUs 0-3 (L40S, 45.0 GiB) can give 41.4 GiB (0.92) each.

    Args:
        site: the host.
        positions: the devices to speak of.
        amounts: what each can give, in parts, in the order of positions.
    """
    alike: dict[tuple[str, int, int, int], list[int]] = {}
    for position, amount in zip(positions, amounts, strict=True):
        device = site.devices[position]
        alike.setdefault((device.name, device.memory_bytes, device.held_bytes, amount), []).append(device.index)
    sentences = []
    for (name, memory, held, amount), indices in alike.items():
        each = " each" if len(indices) > 1 else ""
        given = f"{gib(memory * max(amount, 0) // WHOLE)} ({fraction(max(amount, 0)):.2g}){each}"
        why = f", other processes hold {gib(held)}" if held else ""
        sentences.append(f"{gpus(indices)} ({name}, {gib(memory)}) can give {given}{why}")
    return "; ".join(sentences)
