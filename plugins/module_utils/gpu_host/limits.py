"""Do something with a time limit that holds whatever happens, uninterruptible sleep included.

A process in state D does not die of SIGKILL, so nothing here ever waits for the end of what it gave up.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import time

# A flood in the kernel log must not become a flood of facts.
OUTPUT_BYTES = 16 * 2**20
_CHUNK = 65536


def read_pipes(deadlines, limit=OUTPUT_BYTES):
    """Read pipes until each is at its end or its deadline has come.

    Args:
        deadlines: {file descriptor: time.monotonic() at which it is given up}.
        limit: bytes kept of each; what comes after is read and forgotten.

    Returns:
        ({file descriptor: bytes}, the file descriptors that were given up).
    """
    parts = {pipe: bytearray() for pipe in deadlines}
    waiting, late = dict(deadlines), set()
    while waiting:
        remaining = min(waiting.values()) - time.monotonic()
        ready = select.select(list(waiting), [], [], max(0, remaining))[0]
        for pipe in ready:
            chunk = os.read(pipe, _CHUNK)
            if not chunk:
                del waiting[pipe]
            elif len(parts[pipe]) < limit:
                parts[pipe] += chunk
        now = time.monotonic()
        for pipe in [pipe for pipe, deadline in waiting.items() if deadline <= now]:
            late.add(pipe)
            del waiting[pipe]
    return {pipe: bytes(part) for pipe, part in parts.items()}, late


def run_command(argv, seconds, environment):
    """Run a command; return {rc, stdout, stderr, hangs} with bytes, or None where there is no such program.

    The command has a session of its own and inherits no file of ours: left behind, it holds nothing open.
    """
    deadline = time.monotonic() + seconds
    try:
        process = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment,
            cwd="/",
            start_new_session=True,
        )
    except OSError:
        return None
    pipes = [process.stdout.fileno(), process.stderr.fileno()]
    output, given_up = read_pipes(dict.fromkeys(pipes, deadline))
    late = bool(given_up)
    while not late and process.poll() is None:  # it closed its output and goes on
        time.sleep(0.005)
        late = time.monotonic() > deadline
    if late:
        _kill(process.pid)
    process.stdout.close()
    process.stderr.close()
    return {"rc": process.poll(), "stdout": output[pipes[0]], "stderr": output[pipes[1]], "hangs": late}


def in_children(probes):
    """Run functions at the same time, each in a process of its own.

    Args:
        probes: {name: (function without arguments, seconds)}; what a function returns must be JSON.

    Returns:
        ({name: result or None}, {name: why there is none}).
    """
    results, trouble, children = {}, {}, {}
    for name, (function, seconds) in probes.items():
        results[name] = None
        try:
            pid, pipe = _fork(function)
        except OSError as error:  # no room for another process
            trouble[name] = str(error)
            continue
        children[name] = (pid, pipe, time.monotonic() + seconds)
    texts, late = read_pipes({pipe: deadline for _, pipe, deadline in children.values()})
    for name, (pid, pipe, _) in children.items():
        os.close(pipe)
        if pipe in late:
            trouble[name] = "no answer in time"
            _kill(pid)
            continue
        try:
            answer = json.loads(texts[pipe].decode())
        except ValueError:
            trouble[name] = "ended without an answer"
            continue
        if "error" in answer:
            trouble[name] = answer["error"]
        else:
            results[name] = answer["result"]
    return results, trouble


def _fork(function):
    """Start a function in a child; return its process and the pipe on which its answer comes."""
    reading, writing = os.pipe()
    sys.stdout.flush()
    pid = os.fork()
    if pid:
        os.close(writing)
        return pid, reading
    try:
        os.setsid()
        # ssh waits for everybody who holds its output open.
        null = os.open(os.devnull, os.O_RDWR)
        for descriptor in (0, 1, 2):
            os.dup2(null, descriptor)
        try:
            answer = {"result": function()}
        except OSError as error:
            answer = {"error": str(error)[:300]}
        except Exception as error:
            answer = {"error": f"{type(error).__name__}: {error}"[:300]}
        with os.fdopen(writing, "w") as output:
            output.write(json.dumps(answer))
    finally:
        os._exit(0)


def _kill(pid):
    """Kill a process and its session, without waiting."""
    with contextlib.suppress(OSError):
        os.killpg(pid, signal.SIGKILL)
