"""Fractions of a device's memory as whole numbers, so that 0.3 and 0.65 add up to exactly 0.95."""

from __future__ import annotations

# One part is a millionth of a device.
WHOLE = 1_000_000
# Shares that the plan chooses are hundredths: a person can read them, and small changes of an estimate change nothing.
STEP = WHOLE // 100


def parts(fraction: float) -> int:
    """Return a fraction of a device in parts."""
    return round(fraction * WHOLE)


def fraction(amount: int) -> float:
    """Return parts as the fraction that vLLM is told."""
    return amount / WHOLE


def rounded_up(bytes_: int, memory_bytes: int) -> int:
    """Return the parts of a device that hold so many bytes, rounded up to a step."""
    return -(-bytes_ * WHOLE // memory_bytes // STEP) * STEP if memory_bytes > 0 else 2 * WHOLE


def floored(amount: int) -> int:
    """Return parts rounded down to a step."""
    return amount // STEP * STEP
