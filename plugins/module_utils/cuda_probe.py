#!/usr/bin/python3
"""Prove that CUDA works on every GPU of a host: a context, memory, copies with a compare, by the driver's own library.

Needs the NVIDIA driver and nothing else: no toolkit, no torch; Python 3.8. By hand: ``python3 cuda_probe.py --json``.
Each GPU is tried in a process of its own with a time limit, so that one that is sick hides no other, and one that hangs
in the driver, where no signal reaches it, is left behind rather than waited for.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import permutations
from pathlib import Path

LIBRARY = "libcuda.so.1"
PROC_GPUS = Path("/proc/driver/nvidia/gpus")
NOT_INITIALIZED_YET = 802  # Fabric Manager has not finished
# Errors that are the host's rather than one GPU's: there is no use in asking the GPUs one by one.
HOST_ERRORS = (3, 34, 36, 100, 802, 803, 804)
FAILURES_BORNE = 3  # peer copies; after these the rest is left out
MAX_MIB = 1024  # the host makes and compares as many random bytes
CAPABILITY = (75, 76)  # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR and MINOR
IGNORED_ENVIRONMENT = ("CUDA_VISIBLE_DEVICES", "LD_LIBRARY_PATH", "LD_PRELOAD")


class CudaError(Exception):
    """A call of the driver that failed; its argument is the report."""


def tell(**event):
    """Write one event for the parent; it must be out before the next call, which may never come back."""
    print(json.dumps(event), flush=True)


class Driver:
    """The CUDA driver API, as far as the proof needs it. Each call is announced, timed and checked."""

    def __init__(self):
        tell(begin=f"load {LIBRARY}")
        self.library = ctypes.CDLL(LIBRARY)
        tell(end=f"load {LIBRARY}", seconds=0)
        self.call("cuInit", 0)

    def call(self, function, *arguments, step=None):
        """Call a function of the driver; return the seconds it took, raise CudaError."""
        step = step or function
        tell(begin=step)
        began = time.monotonic()
        code = getattr(self.library, function)(*arguments)
        seconds = round(time.monotonic() - began, 6)
        tell(end=step, seconds=seconds)
        if code:
            name, text = (self.error_text(function, code) for function in ("cuGetErrorName", "cuGetErrorString"))
            raise CudaError({"kind": "cuda", "step": step, "code": code, "name": name, "text": text})
        return seconds

    def error_text(self, function, code):
        """Return CUDA's name or text for an error; older libraries do not know newer errors."""
        text = ctypes.c_char_p()
        getattr(self.library, function)(code, ctypes.byref(text))
        return text.value.decode() if text.value else "unknown"

    def number(self, function, *arguments, kind=ctypes.c_int):
        """Call a function that returns a number by its first argument."""
        value = kind()
        self.call(function, ctypes.byref(value), *arguments)
        return value.value

    def device(self, index):
        """Return what the driver says of a GPU without touching its memory."""
        device = self.number("cuDeviceGet", index)
        name, address, uuid = ctypes.create_string_buffer(100), ctypes.create_string_buffer(32), (ctypes.c_ubyte * 16)()
        self.call("cuDeviceGetName", name, 100, device)
        self.call("cuDeviceGetPCIBusId", address, 32, device)
        self.call("cuDeviceGetUuid_v2", uuid, device)
        hexadecimal = bytes(uuid).hex()
        parts = (hexadecimal[start:end] for start, end in ((0, 8), (8, 12), (12, 16), (16, 20), (20, 32)))
        capability = [self.number("cuDeviceGetAttribute", number, device) for number in CAPABILITY]
        return {
            "index": index,
            "name": name.value.decode(),
            "pci_address": address.value.decode().lower(),
            "uuid": "GPU-" + "-".join(parts),
            "compute_capability": "{}.{}".format(*capability),
            "memory_total_bytes": self.number("cuDeviceTotalMem_v2", device, kind=ctypes.c_size_t),
        }

    def context(self, index):
        """Open a context on a GPU and make it the current one."""
        context = ctypes.c_void_p()
        device = self.number("cuDeviceGet", index)
        self.call("cuCtxCreate_v2", ctypes.byref(context), 0, device, step="context")
        return context

    def allocate(self, size):
        """Return the address of `size` bytes of the current context's memory."""
        return ctypes.c_uint64(self.number("cuMemAlloc_v2", ctypes.c_size_t(size), kind=ctypes.c_uint64))

    def write(self, address, data):
        """Copy bytes of the host to a GPU; return the seconds."""
        return self.call("cuMemcpyHtoD_v2", address, data, ctypes.c_size_t(len(data)), step="copy to the GPU")

    def read(self, address, size):
        """Copy bytes of a GPU to the host; return them and the seconds."""
        data = ctypes.create_string_buffer(size)
        seconds = self.call("cuMemcpyDtoH_v2", data, address, ctypes.c_size_t(size), step="copy to the host")
        return data.raw, seconds


def rate(size, seconds):
    """Return GB/s."""
    return round(size / max(seconds, 1e-9) / 1e9, 2)


def list_task(driver):
    """Tell which GPUs the driver offers."""
    tell(facts={"cuda_version": "{}.{}".format(*divmod(driver.number("cuDriverGetVersion") // 10, 100))})
    tell(facts={"gpus": [driver.device(index) for index in range(driver.number("cuDeviceGetCount"))]})


def gpu_task(driver, index, size):
    """Open a context on a GPU and copy random bytes to it, on it and back."""
    tell(facts=driver.device(index))
    context = driver.context(index)
    free, total = ctypes.c_size_t(), ctypes.c_size_t()
    driver.call("cuMemGetInfo_v2", ctypes.byref(free), ctypes.byref(total))
    tell(facts={"memory_free_bytes": free.value})
    data = os.urandom(size)
    first, second = driver.allocate(size), driver.allocate(size)
    there = driver.write(first, data)
    driver.call("cuMemcpyDtoD_v2", second, first, ctypes.c_size_t(size), step="copy on the GPU")
    driver.call("cuCtxSynchronize", step="wait for the copy")  # such a copy returns before it is done
    received, back = driver.read(second, size)
    tell(facts={"gb_per_s_to_gpu": rate(size, there), "gb_per_s_to_host": rate(size, back)})
    if received != data:
        tell(error=difference(data, received))
    driver.call("cuCtxDestroy_v2", context, step="close the context")


def peers_task(driver, pairs, size):
    """Copy random bytes from GPU to GPU, for each (from, to); directly where the driver says that it can."""
    data = os.urandom(size)
    contexts = {index: driver.context(index) for index in sorted({index for pair in pairs for index in pair})}
    for source, target in pairs:
        tell(pair=[source, target])
        device, peer = driver.number("cuDeviceGet", source), driver.number("cuDeviceGet", target)
        direct = bool(driver.number("cuDeviceCanAccessPeer", device, peer))
        driver.call("cuCtxSetCurrent", contexts[target])
        there = driver.allocate(size)
        # What an earlier copy left there would pass for this one's.
        driver.call("cuMemsetD8_v2", there, ctypes.c_ubyte(0), ctypes.c_size_t(size))
        driver.call("cuCtxSynchronize")
        driver.call("cuCtxSetCurrent", contexts[source])
        here = driver.allocate(size)
        driver.write(here, data)
        if direct:
            driver.call("cuCtxEnablePeerAccess", contexts[target], 0)
        arguments = (there, contexts[target], here, contexts[source], ctypes.c_size_t(size))
        seconds = driver.call("cuMemcpyPeer", *arguments, step="copy to the other GPU")
        seconds += driver.call("cuCtxSynchronize", step="wait for the copy")
        driver.call("cuMemFree_v2", here)
        driver.call("cuCtxSetCurrent", contexts[target])
        received, _seconds = driver.read(there, size)
        driver.call("cuMemFree_v2", there)
        error = None if received == data else difference(data, received)
        tell(peer={"from": source, "to": target, "direct": direct, "gb_per_s": rate(size, seconds), "error": error})


def difference(sent, received):
    """Return the error for bytes that came back changed."""
    at = next(i for i, (a, b) in enumerate(zip(sent, received)) if a != b)  # noqa: B905 - strict is 3.10
    return failure("data", "compare", f"the bytes that came back differ from those sent, first at {at} of {len(sent)}")


TASKS = {"list": list_task, "gpu": gpu_task, "peers": peers_task}


def child(task, arguments):
    """Do one task and tell of it; never raises what CUDA said."""
    try:
        TASKS[task](Driver(), *arguments)
    except CudaError as error:
        tell(error=error.args[0])
    except OSError as error:
        tell(error=failure("library", f"load {LIBRARY}", str(error)))


def fold(lines):
    """Make a report of a child's events; return it, the step that did not end, and the pair of GPUs it was at."""
    report = {"seconds": {}, "peers": [], "error": None}
    step = pair = None
    for line in lines:
        try:
            event = json.loads(line)
        except ValueError:
            continue  # the last line of a child that was killed while it wrote
        if "begin" in event:
            step = event["begin"]
        elif "end" in event:
            step = None
            report["seconds"][event["end"]] = event["seconds"]
        elif "pair" in event:
            pair = event["pair"]
        elif "peer" in event:
            pair = None
            report["peers"].append(event["peer"])
        elif "error" in event:
            report["error"] = event["error"]
        else:
            report.update(event["facts"])
    return report, step, pair


def own_source():
    """Return the text of this file, also from within the archive in which Ansible sends it."""
    return __loader__.get_source(__name__)


def state_of(pid):
    """Return the letter of a process's state, or an empty string."""
    try:
        return Path("/proc", str(pid), "stat").read_text().rpartition(")")[2].split()[0]
    except (OSError, IndexError):
        return ""


def run_child(task, arguments, limit, program=None, prefix=(), environment=()):
    """Run a task in a child for at most `limit` seconds; return its report and the pair of GPUs it was at.

    `program` is what the child's Python reads, `prefix` what starts it (systemd-run, for one). Input and output are
    files: nothing is held open by a child that cannot be killed.
    """
    with tempfile.TemporaryFile() as source, tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
        source.write((program or own_source()).encode())
        source.seek(0)
        kept = {name: value for name, value in os.environ.items() if name not in IGNORED_ENVIRONMENT}
        # By env, since a transient unit does not inherit any.
        variables = {"CUDA_DEVICE_ORDER": "PCI_BUS_ID", **dict(environment)}
        started_by = [*prefix, "env", *(f"{name}={value}" for name, value in variables.items())]
        try:
            process = subprocess.Popen(  # a `with` would wait for it at its end
                [*started_by, sys.executable, "-B", "-", "--child", json.dumps([task, list(arguments)])],
                stdin=source,
                stdout=output,
                stderr=errors,
                env=kept,
                cwd="/",
                start_new_session=True,
            )
        except OSError as error:
            return {**fold([])[0], "error": failure("crash", None, str(error))}, None
        hung, stuck = not ended(process, limit), ""
        if hung:
            os.killpg(process.pid, signal.SIGKILL)
            stuck = "" if ended(process, 2) else state_of(process.pid)
        output.seek(0)
        report, step, pair = fold(output.read().decode(errors="replace").splitlines())
        errors.seek(0)
        said = errors.read().decode(errors="replace").strip()
    if hung:
        text = f"no answer within {limit:g} s"
        text += f"; the process (pid {process.pid}, state {stuck}) cannot even be killed" if stuck else ""
        report["error"] = failure("hang", step, text)
    elif process.returncode and not report["error"]:
        text = f"killed by signal {-process.returncode}" if process.returncode < 0 else f"status {process.returncode}"
        report["error"] = failure("crash", step, ": ".join([text, *said.splitlines()[-1:]]))
    return report, pair


def failure(kind, step, text):
    """Return an error that is not CUDA's own."""
    return {"kind": kind, "step": step, "code": None, "name": None, "text": text}


def ended(process, seconds):
    """Wait for a process; return whether it ended in time."""
    with suppress(subprocess.TimeoutExpired):
        process.wait(timeout=seconds)
    return process.returncode is not None


def listed_by_the_kernel(root=PROC_GPUS):
    """Return address and UUID of the GPUs the kernel module knows, without asking the driver's library."""
    gpus = []
    for path in sorted(root.glob("*/information")):
        fields = dict(line.partition(":")[::2] for line in path.read_text().splitlines())
        uuid = fields.get("GPU UUID", "").strip()
        if uuid.startswith("GPU-") and "?" not in uuid:
            name = fields.get("Model", "").strip()
            gpus.append({"index": len(gpus), "name": name, "pci_address": path.parent.name.lower(), "uuid": uuid})
    return gpus


def try_gpus(gpus, size, limit, by_uuid=False, **how):
    """Try all GPUs at once, each in a child; `by_uuid` shows each child its own GPU only."""

    def attempt(gpu):
        index, environment = (0, {"CUDA_VISIBLE_DEVICES": gpu["uuid"]}) if by_uuid else (gpu["index"], {})
        report, _pair = run_child("gpu", [index, size], limit, environment=environment, **how)
        del report["peers"]
        return {**gpu, **report, "index": gpu["index"]}

    with ThreadPoolExecutor(max(len(gpus), 1)) as pool:
        return list(pool.map(attempt, gpus))


def try_peers(indices, size, limit, **how):
    """Copy between all pairs of GPUs; after a hang go on with the other pairs in a new child."""
    left, done, failures = [list(pair) for pair in permutations(indices, 2)], [], 0
    while left and failures < FAILURES_BORNE:
        report, pair = run_child("peers", [left, size], limit, **how)
        done += report["peers"]
        finished = [[peer["from"], peer["to"]] for peer in report["peers"]]
        if report["error"]:
            failures += 1
            source, target = pair or left[0]
            done.append({"from": source, "to": target, "direct": None, "gb_per_s": None, "error": report["error"]})
            finished.append([source, target])
        left = [pair for pair in left if pair not in finished]
    return done


def prove(size=64 << 20, limit=120, fabric_limit=0, peers=True, **how):
    """Try every GPU of this host and every pair of them.

    Returns error (what keeps all GPUs from working, or None), cuda_version, gpus, peers, and the seconds it took.
    A fabric that is not ready yet is waited for, at most `fabric_limit` seconds.
    """
    began = time.monotonic()
    listed, _pair = run_child("list", [], limit, **how)
    while (listed["error"] or {}).get("code") == NOT_INITIALIZED_YET and time.monotonic() - began < fabric_limit:
        time.sleep(min(5, fabric_limit / 10))
        listed, _pair = run_child("list", [], limit, **how)
    error = listed["error"]
    gpus, pairs = [], []
    if not error:
        gpus = try_gpus(listed["gpus"], size, limit, **how)
        healthy = [gpu["index"] for gpu in gpus if not gpu["error"]]
        pairs = try_peers(healthy, size, limit, **how) if peers else []
    elif error["kind"] != "library" and error["code"] not in HOST_ERRORS:
        # One sick GPU can keep the whole library from starting: show it one GPU at a time.
        gpus = try_gpus(listed_by_the_kernel(), size, limit, by_uuid=True, **how)
    return {
        "error": error,
        "cuda_version": listed.get("cuda_version"),
        "gpus": gpus,
        "peers": pairs,
        "seconds": round(time.monotonic() - began, 3),
    }


def sentence(error):
    """Return an error in words."""
    named = f"{error['code']} {error['name']}, " if error["code"] else ""
    return f"{error['step'] or 'start'}: {named}{error['text']}"


def show(report):
    """Print a report for a person."""
    for gpu in report["gpus"]:
        verdict = sentence(gpu["error"]) if gpu["error"] else f"context {gpu['seconds']['context']:.2f} s, bytes equal"
        print(f"GPU {gpu['index']} {gpu['name']} {gpu['pci_address']} {gpu['uuid']}: {verdict}")
    for peer in report["peers"]:
        verdict = sentence(peer["error"]) if peer["error"] else f"{peer['gb_per_s']} GB/s, bytes equal"
        print(f"GPU {peer['from']} to GPU {peer['to']}: {verdict}")
    print(sentence(report["error"]) if report["error"] else f"{len(report['gpus'])} GPUs, {report['seconds']:.1f} s")


def main():
    """Run by hand, or as a child of itself."""
    parser = argparse.ArgumentParser(description="Prove that CUDA works on every GPU of this host.")
    parser.add_argument("--json", action="store_true", help="print the report as JSON")
    parser.add_argument("--mib", type=int, default=64, help="MiB to copy (default: 64)")
    parser.add_argument("--timeout", type=float, default=120, help="seconds that one GPU may take (default: 120)")
    parser.add_argument("--no-peers", action="store_true", help="leave out the copies between GPUs")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if not 1 <= options.mib <= MAX_MIB:
        parser.error(f"--mib is 1 to {MAX_MIB}, not {options.mib}")
    if options.child:
        child(*json.loads(options.child))
        return 0
    report = prove(options.mib << 20, options.timeout, peers=not options.no_peers)
    if options.json:
        print(json.dumps(report, indent=1))
    else:
        show(report)
    failed = any(part["error"] for part in (report, *report["gpus"], *report["peers"]))
    return 1 if failed or not report["gpus"] else 0


if __name__ == "__main__":
    sys.exit(main())
