"""Run one vLLM server under systemd and tell systemd the truth about it.

vLLM has no sd_notify, answers 200 on /health while its engine is frozen, and exits 0 when its engine dies. This
wrapper starts vLLM, reports READY=1 after a real request of the server's kind was answered, feeds WATCHDOG=1 while
such requests are answered, keeps the status line readable, bounds the stop, and ends as vLLM ended, except that an
end nobody asked for is never a success.

Standard library only. Usage: python vllm_notify --kind llm --port 32804 --served-model-name NAME -- vllm serve ...
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from host import Starts, credential, device_locks, kill, notify, of_unit, oom_kills, port_holder, say
from probe import PROBES, Client, Health, RefusedError

# How often a start or stop gives a sign of life, and how far each moves systemd's time limit.
TICK_SECONDS = 1.0
EXTEND_SECONDS = 60
# A first request may compile kernels for minutes; the start's own limit bounds it all.
FIRST_PROBE_SECONDS = 600.0
# At WatchdogSec=60 one probe every 10 s, which waits 10 s for its answer.
PROBES_PER_WATCHDOG = 6
# How long a start waits for whoever holds its port, and for killed processes to be gone.
PORT_SECONDS = 30.0
KILL_SECONDS = 30.0
HELPERS_SECONDS = 2.0
# How long a stop waits until another server has started; what it needs beyond its requests' time to tear down.
STOP_LOCK_SECONDS = 300.0
TEARDOWN_SECONDS = 20
EXIT_FAILED = 1
# vLLM's own status for a wrong flag, and the unit's RestartPreventExitStatus=: it would only fail again.
EXIT_WRONG = 2
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGABRT, signal.SIGCHLD)


class StartError(Exception):
    """Why vLLM is not even tried, for an operator, and the exit status to end with."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


class Supervisor:
    """One vLLM process from its start to its end.

    Signals are blocked and read by `pause`. The main thread alone polls the process: two polls at once hide its end.
    """

    def __init__(self, options: argparse.Namespace, api_key: str | None) -> None:
        self.options = options
        self.api_key = api_key
        self.name = options.served_model_name
        self.serving = f"serving {self.name}, {options.describe}"
        self.client = Client(options.kind, options.address, options.port, self.name, api_key)
        self.starts = Starts(os.environ.get("CACHE_DIRECTORY"), options.start_tries)
        self.watchdog_seconds = int(os.environ.get("WATCHDOG_USEC", "0")) / 1_000_000
        self.ready = False
        self.stopping = False
        self.aborted = False
        self.began = self.asked_to_stop = time.monotonic()

    def pause(self, seconds: float) -> None:
        """Wait for a signal: SIGTERM asks to stop, SIGABRT is systemd's watchdog, SIGCHLD is vLLM's end."""
        received = signal.sigtimedwait(SIGNALS, seconds)
        if received is not None:
            self.aborted |= received.si_signo == signal.SIGABRT
            if received.si_signo in (signal.SIGTERM, signal.SIGINT) and not self.stopping:
                self.stopping, self.asked_to_stop = True, time.monotonic()

    def tell(self, status: str, *, extend: bool = True) -> None:
        """Tell systemd what is waited for, and that the start or stop is not stuck."""
        fields: dict[str, str | int] = {"STATUS": f"{self.name}: {status} ({int(time.monotonic() - self.began)} s)"}
        if extend:
            fields["EXTEND_TIMEOUT_USEC"] = EXTEND_SECONDS * 1_000_000
        notify(**fields)

    def run(self) -> int:
        """Run vLLM from its start to its end and return the exit status of this process."""
        try:
            status, ending = self.run_vllm()
        except StartError as error:
            status, ending = error.status, f"cannot start: {error}"
        if status in (0, EXIT_WRONG):
            self.starts.forget()
        elif not self.ready and self.starts.exhausted:
            self.starts.forget()
            ending += f"; given up after {self.starts.tries} failed starts in a row"
            status = EXIT_WRONG
        say(ending)
        notify(STATUS=ending)
        return status

    def run_vllm(self) -> tuple[int, str]:
        """Start vLLM, report readiness and wait for its end; return the exit status and how it ended."""
        with device_locks(self.options.device_lock, fcntl.LOCK_EX, self.wait_to_start) as locked:
            self.began = time.monotonic()
            if locked:
                if not self.starts.begin():
                    raise StartError(EXIT_WRONG, f"given up after {self.starts.failed} failed starts in a row")
                self.clear_the_way()
            if self.stopping or self.aborted:
                return 0, "asked to stop before vllm was started"
            process = self.start()
            self.wait_until_ready(process)
            if self.stopping:
                self.stop(process, TEARDOWN_SECONDS)
        self.serve(process)
        return self.end(process)

    def wait_to_start(self, device: str) -> bool:
        """Wait a moment for another server on the same device; False when asked to end."""
        self.tell(f"waiting until another server has started or stopped on {device}")
        self.pause(TICK_SECONDS)
        return not (self.stopping or self.aborted)

    def clear_the_way(self) -> None:
        """Remove what a former start has left, and make sure that vLLM can have its model and its port."""
        unit, model, port = self.options.unit, self.options.model_path, self.options.port
        for process in of_unit(unit):
            say(f"left over from a former start, killed: {process}")
        if left := kill(unit, KILL_SECONDS):
            raise StartError(EXIT_FAILED, f"{left[0]} of a former start cannot be killed and keeps its memory: reboot")
        if model is not None and not os.access(model, os.R_OK):
            found = "is not readable for this user" if model.exists() else "does not exist"
            raise StartError(EXIT_WRONG, f"model {model} {found}; fetch it: ansible-playbook playbooks/models.yml")
        limit = time.monotonic() + PORT_SECONDS
        while (holder := port_holder(port)) and not self.stopping:
            if time.monotonic() > limit:
                raise StartError(EXIT_FAILED, f"port {port} is taken by {holder}; stop that, or declare another port")
            self.tell(f"waiting for port {port}, taken by {holder}")
            self.pause(TICK_SECONDS)

    def start(self) -> subprocess.Popen[bytes]:
        """Start vLLM, without what is meant for this wrapper alone."""
        hidden = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID")
        environment = {name: value for name, value in os.environ.items() if name not in hidden}
        if self.api_key:
            environment["VLLM_API_KEY"] = self.api_key
        command = self.options.command
        try:
            # No thread runs yet, which is what makes preexec_fn safe.
            return subprocess.Popen(
                command, env=environment, preexec_fn=lambda: signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
            )
        except OSError as error:
            raise StartError(EXIT_WRONG, f"{command[0]}: {error.strerror}") from error

    def wait_until_ready(self, process: subprocess.Popen[bytes]) -> None:
        """Return when a real request was answered, or when vLLM ended or is to be stopped."""
        answered = threading.Event()
        waiting_for = ["loading the model"]

        def ask() -> None:
            while process.returncode is None and not answered.is_set():
                try:
                    self.client.probe(FIRST_PROBE_SECONDS)
                    answered.set()
                except ConnectionRefusedError:
                    waiting_for[0] = "loading the model"
                except (OSError, RefusedError) as error:
                    waiting_for[0] = f"first request: {error}"
                answered.wait(TICK_SECONDS)

        threading.Thread(target=ask, daemon=True).start()
        while not (self.stopping or self.aborted):
            if answered.is_set():
                self.ready = True
                self.starts.forget()
                say(f"ready: {self.name} answered a real request after {int(time.monotonic() - self.began)} s")
                notify(READY=1, STATUS=self.serving)
                return
            if process.poll() is not None:
                return
            self.tell(waiting_for[0], extend=time.monotonic() - self.began < self.options.start_timeout)
            self.pause(TICK_SECONDS)

    def serve(self, process: subprocess.Popen[bytes]) -> None:
        """Wait until vLLM has ended by itself, or stop it when asked to."""
        if self.watchdog_seconds:
            threading.Thread(target=self.watch, args=[process], daemon=True).start()
        while process.poll() is None and not self.aborted:
            self.pause(EXTEND_SECONDS)
            if self.stopping and process.poll() is None:
                with device_locks(self.options.device_lock, fcntl.LOCK_SH, self.wait_to_stop):
                    self.stop(process, self.options.drain + TEARDOWN_SECONDS)

    def watch(self, process: subprocess.Popen[bytes]) -> None:
        """Feed systemd's watchdog while the server answers or computes; say what is missing otherwise."""
        limit = self.watchdog_seconds / PROBES_PER_WATCHDOG
        health, sign_of_life, trouble = Health(), time.monotonic(), ""
        while not self.stopping and process.returncode is None:
            try:
                self.client.probe(limit)
            except (OSError, RefusedError) as error:
                failed = isinstance(error, RefusedError) and error.engine_failed
                computes = health.missed(self.client.progress(limit), engine_failed=failed)
                if computes:
                    sign_of_life = time.monotonic()
                    notify(WATCHDOG=1)
                silent = f"no sign of life for {time.monotonic() - sign_of_life:.0f} s of {self.watchdog_seconds:.0f} s"
                known, trouble = trouble, "busy" if computes else silent
                if trouble != known:
                    say(f"{trouble}: {error}")
                    notify(STATUS=f"{self.serving}; {trouble}")
                if health.dead and not self.stopping:
                    notify(WATCHDOG="trigger", STATUS=f"{self.name}: every request fails; {error}")
                    return
                time.sleep(TICK_SECONDS)
                continue
            health.answered()
            sign_of_life = time.monotonic()
            notify(WATCHDOG=1)
            if trouble:
                say("answers again")
                notify(STATUS=self.serving)
                trouble = ""
            time.sleep(limit)

    def wait_to_stop(self, device: str) -> bool:
        """Wait a moment for a start on the same device, which this stop would falsify; False when it took too long."""
        self.tell(f"asked to stop; waiting until another server has started on {device}")
        self.pause(TICK_SECONDS)
        return time.monotonic() < self.asked_to_stop + STOP_LOCK_SECONDS

    def stop(self, process: subprocess.Popen[bytes], seconds: float) -> None:
        """Let vLLM finish its requests and end; kill it after ``seconds``, since some clients never leave."""
        notify(
            STOPPING=1,
            STATUS=f"{self.name}: finishing running requests, then stopping",
            EXTEND_TIMEOUT_USEC=int(seconds + KILL_SECONDS) * 1_000_000,
        )
        process.send_signal(signal.SIGTERM)
        limit = time.monotonic() + seconds
        while process.poll() is None and (left := limit - time.monotonic()) > 0:
            self.pause(left)
        if process.poll() is None:
            say(f"still not ended {seconds:.0f} s after SIGTERM (a client that does not leave, or a hang): killed")
            process.kill()
            process.wait()

    def end(self, process: subprocess.Popen[bytes]) -> tuple[int, str]:
        """Leave nothing of vLLM behind; return its exit status and its end in words. An end unasked for is never 0."""
        unit = self.options.unit
        if self.aborted:
            known = "; ".join(map(str, of_unit(unit))) or "none"
            process.kill()
            kill(unit, KILL_SECONDS)
            # One that waits for a driver cannot be waited for.
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(TICK_SECONDS)
            return 128 + signal.SIGABRT, f"ended by the watchdog. The processes of the server were: {known}"
        code = process.wait()
        # Python's own helpers end a moment after their parent.
        limit = time.monotonic() + HELPERS_SECONDS
        while of_unit(unit) and time.monotonic() < limit:
            time.sleep(0.1)
        for left in of_unit(unit):
            say(f"left behind by vllm, killed: {left}")
        kill(unit, KILL_SECONDS)
        ending = f"vllm was killed by {signal.Signals(-code).name}" if code < 0 else f"vllm exited with status {code}"
        if killed := oom_kills():
            ending += f"; the kernel killed {killed} of its processes for lack of memory, see MemoryMax="
        if self.stopping:
            return 0, f"{ending} after it was asked to stop"
        return 128 - code if code < 0 else code or EXIT_FAILED, f"{ending} although nobody asked it to stop"


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse the command line and run the server; return the exit status."""
    parser = argparse.ArgumentParser(prog="vllm_notify", description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--kind", choices=sorted(PROBES), required=True, help="which request proves the server")
    parser.add_argument("--address", default="127.0.0.1", help="where the server listens")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--served-model-name", required=True, help="the model name the request carries")
    parser.add_argument("--describe", default="", help="what the status line says beside the model's name")
    parser.add_argument("--unit", default="", help="this unit's name: its other processes are leftovers")
    parser.add_argument("--model-path", type=Path, help="what must be there before vLLM is tried")
    parser.add_argument("--start-timeout", type=int, default=1800, help="seconds a start may take at most")
    parser.add_argument("--start-tries", type=int, default=5, help="failed starts in a row before giving up")
    parser.add_argument("--drain", type=int, default=30, help="seconds running requests get at a stop")
    parser.add_argument("--device-lock", type=Path, action="append", default=[], help="held while starting or stopping")
    parser.add_argument("command", nargs="+", help="the server, behind --")
    options = parser.parse_args(arguments)
    # Threads inherit the mask; every signal is taken by Supervisor.pause, at a moment that suits.
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    return Supervisor(options, credential("api_key")).run()


if __name__ == "__main__":
    sys.exit(main())
