"""A stand-in for NVIDIA's libcuda.so.1, for machines without a GPU.

It answers as driver 580.159.04 was seen to on an H100: same functions, names, identifiers and error texts. What is
wrong with the GPUs of a test is a mapping such as ``{"gpus": 2, "fail": {"cuCtxCreate_v2:1": 46}, "hang": ["cuInit"],
"corrupt": [1]}``, where ``:1`` means only on GPU 1, and ``0>1`` only from GPU 0 to GPU 1.
"""

from __future__ import annotations

import ctypes
import json
import os
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
PROBE = ROOT / "plugins/module_utils/cuda_probe.py"
MEMORY = 85017493504
ERRORS = {
    2: ("CUDA_ERROR_OUT_OF_MEMORY", "out of memory"),
    3: ("CUDA_ERROR_NOT_INITIALIZED", "initialization error"),
    46: ("CUDA_ERROR_DEVICE_UNAVAILABLE", "CUDA-capable device(s) is/are busy or unavailable"),
    100: ("CUDA_ERROR_NO_DEVICE", "no CUDA-capable device is detected"),
    802: ("CUDA_ERROR_SYSTEM_NOT_READY", "system not yet initialized"),
    999: ("CUDA_ERROR_UNKNOWN", "unknown error"),
}


def program(wrong: dict[str, Any]) -> str:
    """Return what a child of the probe runs instead of the probe alone: the probe, with this library."""
    return f"""
import ctypes, json, runpy, sys
sys.path.insert(0, {str(ROOT)!r})
from tests.fake_libcuda import FakeLibcuda
ctypes.CDLL = lambda name: FakeLibcuda(json.loads({json.dumps(wrong)!r}))
runpy.run_path({str(PROBE)!r}, run_name="__main__")
"""


def uuid_of(index: int) -> bytes:
    return bytes.fromhex("09c8091d0ee472a5f7060a193588a8") + bytes([index])


def uuid_text(index: int) -> str:
    text = uuid_of(index).hex()
    return f"GPU-{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


class FakeLibcuda:
    """Functions of the driver API; each returns an error number and writes its results where it is told."""

    def __init__(self, wrong: dict[str, Any]) -> None:
        if wrong.get("library"):
            raise OSError(wrong["library"])
        self.wrong = wrong
        visible = os.environ.get("CUDA_VISIBLE_DEVICES")
        everything = range(wrong.get("gpus", 1))
        self.gpus = [gpu for gpu in everything if visible in (None, uuid_text(gpu))]
        self.memory: dict[int, bytes] = {}
        self.contexts: list[int] = []
        self.current = 0
        self.enabled: set[tuple[int, int]] = set()

    def outcome(self, function: str, *where: object) -> int:
        """Hang or return the error that this test wants of a function, or 0."""
        names = [function, *(f"{function}:{place}" for place in where)]
        if set(names) & set(self.wrong.get("hang", [])):
            time.sleep(600)
        return next((code for name, code in self.wrong.get("fail", {}).items() if name in names), 0)

    def changed(self, data: bytes, place: object) -> bytes:
        return bytes([data[0] ^ 1]) + data[1:] if place in self.wrong.get("corrupt", []) else data

    def cuInit(self, flags: int) -> int:  # noqa: N802 - NVIDIA's names
        assert flags == 0
        # A GPU that keeps the library from starting does so wherever it can be seen.
        return self.outcome("cuInit", *self.gpus)

    def cuGetErrorName(self, code: int, text: Any) -> int:  # noqa: N802
        text._obj.value = ERRORS[code][0].encode()
        return 0

    def cuGetErrorString(self, code: int, text: Any) -> int:  # noqa: N802
        text._obj.value = ERRORS[code][1].encode()
        return 0

    def cuDriverGetVersion(self, version: Any) -> int:  # noqa: N802
        version._obj.value = 13000
        return 0

    def cuDeviceGetCount(self, count: Any) -> int:  # noqa: N802
        count._obj.value = len(self.gpus)
        return 0

    def cuDeviceGet(self, device: Any, index: int) -> int:  # noqa: N802
        device._obj.value = self.gpus[index]
        return 0

    def cuDeviceGetName(self, name: Any, length: int, device: int) -> int:  # noqa: N802
        name.value = b"NVIDIA H100 80GB HBM3"
        return 0

    def cuDeviceGetPCIBusId(self, address: Any, length: int, device: int) -> int:  # noqa: N802
        address.value = f"0000:{device:02X}:06.0".encode()
        return 0

    def cuDeviceGetUuid_v2(self, uuid: Any, device: int) -> int:  # noqa: N802
        uuid[:] = uuid_of(device)
        return 0

    def cuDeviceGetAttribute(self, value: Any, attribute: int, device: int) -> int:  # noqa: N802
        value._obj.value = {75: 9, 76: 0}[attribute]
        return 0

    def cuDeviceTotalMem_v2(self, size: Any, device: int) -> int:  # noqa: N802
        size._obj.value = MEMORY
        return 0

    def cuCtxCreate_v2(self, context: Any, flags: int, device: int) -> int:  # noqa: N802
        self.contexts.append(device)
        context._obj.value = self.current = len(self.contexts)
        return self.outcome("cuCtxCreate_v2", device)

    def cuCtxSetCurrent(self, context: Any) -> int:  # noqa: N802
        self.current = context.value
        return 0

    def cuCtxDestroy_v2(self, context: Any) -> int:  # noqa: N802
        return 0

    def cuCtxSynchronize(self) -> int:  # noqa: N802
        return self.outcome("cuCtxSynchronize", self.contexts[self.current - 1])

    def cuMemGetInfo_v2(self, free: Any, total: Any) -> int:  # noqa: N802
        free._obj.value, total._obj.value = 84465090560, MEMORY
        return 0

    def cuMemAlloc_v2(self, address: Any, size: Any) -> int:  # noqa: N802
        address._obj.value = 0x7F0000000000 + (len(self.memory) << 32)
        self.memory[address._obj.value] = bytes(size.value)
        return self.outcome("cuMemAlloc_v2", self.contexts[self.current - 1])

    def cuMemFree_v2(self, address: Any) -> int:  # noqa: N802
        return 0

    def cuMemsetD8_v2(self, address: Any, value: Any, size: Any) -> int:  # noqa: N802
        self.memory[address.value] = bytes([value.value]) * size.value
        return 0

    def cuMemcpyHtoD_v2(self, address: Any, data: bytes, size: Any) -> int:  # noqa: N802
        self.memory[address.value] = data[: size.value]
        return 0

    def cuMemcpyDtoD_v2(self, to: Any, source: Any, size: Any) -> int:  # noqa: N802
        self.memory[to.value] = self.changed(self.memory[source.value], self.contexts[self.current - 1])
        return 0

    def cuMemcpyDtoH_v2(self, data: Any, address: Any, size: Any) -> int:  # noqa: N802
        ctypes.memmove(data, self.memory[address.value], size.value)
        return 0

    def cuDeviceCanAccessPeer(self, can: Any, device: int, peer: int) -> int:  # noqa: N802
        can._obj.value = 1
        return 0

    def cuCtxEnablePeerAccess(self, peer: Any, flags: int) -> int:  # noqa: N802
        pair = (self.current, peer.value)
        assert pair not in self.enabled, "the real one answers 704 here"
        self.enabled.add(pair)
        return 0

    def cuMemcpyPeer(self, to: Any, to_context: Any, source: Any, context: Any, size: Any) -> int:  # noqa: N802
        pair = f"{self.contexts[context.value - 1]}>{self.contexts[to_context.value - 1]}"
        self.memory[to.value] = self.changed(self.memory[source.value], pair)
        return self.outcome("cuMemcpyPeer", pair)
