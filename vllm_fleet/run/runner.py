"""Run a playbook through ansible-runner: one real `ansible-playbook` process, watched, logged and judged."""

import contextlib
import os
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from ansible_runner import Runner, RunnerConfig

from vllm_fleet.errors import FleetError
from vllm_fleet.run.arguments import job_name, join_arguments
from vllm_fleet.run.display import Display
from vllm_fleet.run.events import Failure, HostCounts, Message, RunState, TaskRun, apply, fold
from vllm_fleet.run.logs import RUNS, History, new_run, read_events, read_history, read_log, write_history
from vllm_fleet.run.outcome import RC_INTERRUPTED, RC_UNKNOWN, Status, first_failure, judge
from vllm_fleet.run.playbook import CHECKOUT, count_plays, find_playbook

TICK = 1.0  # seconds between two looks at the clock while Ansible is silent
MOST_CHARACTERS = 20_000_000  # of one task's result in the log
GRACE = 10.0  # seconds that ansible-playbook gets to stop its workers after an interruption

# From the number of plays (None: unknown) and the last good run of the same job to a way of showing this one.
DisplayFactory = Callable[[int | None, History], Display]


@dataclass(frozen=True)
class RunResult:
    """What became of a run. Durations in seconds."""

    status: Status
    rc: int | None
    """The exit status of ansible-playbook, None if a signal ended it."""
    explanation: str
    """What happened, where no failed task says it; else empty."""
    hosts: Mapping[str, HostCounts]
    failure: Failure | None
    """The one failure that matters: the first that nothing rescued."""
    failures: tuple[Failure, ...]
    debug_messages: tuple[Message, ...]
    diffs: tuple[Message, ...]
    warnings: tuple[str, ...]
    tasks: tuple[TaskRun, ...]
    unfinished: TaskRun | None
    """The task at which the run stopped without ending it."""
    duration: float
    log_dir: Path

    @property
    def log(self) -> Path:
        """Everything that ansible-playbook printed."""
        return self.log_dir / "stdout"

    @property
    def exit_code(self) -> int:
        """Ansible's own exit status (0, 2 failed, 4 unreachable ...), 130 if interrupted, 3 if unknown."""
        if self.status == "interrupted":
            return RC_INTERRUPTED
        return RC_UNKNOWN if self.status == "unknown" or self.rc is None else self.rc


def run_playbook(
    playbook: str | Path,
    inventory: Sequence[str] = (),
    args: Sequence[str] = (),
    *,
    display: DisplayFactory | None = None,
    passwords: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    runs: Path = RUNS,
) -> RunResult:
    """Run `playbook` and say what became of it; a failed run is a result, not an exception.

    `inventory` and `args` (further options) go to ansible-playbook as they are; an empty inventory means ansible.cfg's.
    `passwords` maps patterns of password prompts to answers. `runs` is where the log goes. In the main thread SIGINT,
    SIGTERM and SIGHUP stop the run in good order. Raises FleetError if the run cannot be started.
    """
    cwd = cwd or Path.cwd()
    path = find_playbook(str(playbook), cwd)
    options = [*(part for source in inventory for part in ("-i", source)), *args]
    job = job_name(path, options)
    history = read_history(job, runs)
    run_dir = new_run(runs)
    watch = _Watch(display(count_plays(path), history) if display else None)
    config = _configure(path, options, run_dir, cwd, passwords or {})
    runner = Runner(config, event_handler=watch.event, cancel_callback=watch.tick, status_handler=_forget_command)
    began = time.monotonic()
    with watch.showing(), _signals_to(watch):
        runner.run()
    _forget_unfinished(run_dir)
    return _conclude(runner.rc, run_dir, job, time.monotonic() - began, watch.interrupted)


def _configure(playbook: Path, options: Sequence[str], run_dir: Path, cwd: Path, passwords: Mapping[str, str]) -> Any:
    environment = _environment(os.environ)
    if shutil.which("ansible-playbook", path=environment["PATH"]) is None:
        raise FleetError(f"ansible-playbook is not installed beside {sys.executable}. Run `make setup` in {CHECKOUT}.")
    config = RunnerConfig(
        private_data_dir=str(run_dir),
        artifact_dir=str(run_dir.parent),
        ident=run_dir.name,
        project_dir=str(cwd),
        playbook=str(playbook),
        cmdline=join_arguments(options),
        envvars=environment,
        passwords=dict(passwords),
        fact_cache_type="memory",  # what ansible.cfg says; the runner would write every host's facts into the log
        suppress_env_files=True,
        quiet=True,
    )
    config.prepare()
    config.pexpect_timeout = TICK
    # The runner switches host key checking off unless told otherwise. Whether it is on is ansible.cfg's to say.
    if "ANSIBLE_HOST_KEY_CHECKING" not in environment:
        config.env.pop("ANSIBLE_HOST_KEY_CHECKING", None)
    return config


def _environment(base: Mapping[str, str]) -> dict[str, str]:
    """The environment of ansible-playbook: this virtual environment first, the checkout's ansible.cfg, a plain log."""
    environment = dict(base)
    environment["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), base.get("PATH", os.defpath)])
    environment.setdefault("ANSIBLE_CONFIG", str(CHECKOUT / "ansible.cfg"))
    # The recap is read: it must be the default callback's, without colours, whatever this shell prefers.
    environment |= {"ANSIBLE_NOCOLOR": "1", "ANSIBLE_FORCE_COLOR": "0", "ANSIBLE_STDOUT_CALLBACK": "default"}
    # The runner adds its own to these, and what ansible.cfg says counts for nothing then.
    environment.setdefault("ANSIBLE_CALLBACK_PLUGINS", str(CHECKOUT / "plugins/callback"))
    # Beyond this length the runner drops a task's whole result, the message of its failure included.
    environment["MAX_EVENT_RES"] = str(MOST_CHARACTERS)
    return environment


def _conclude(rc: int | None, run_dir: Path, job: str, duration: float, interrupted: bool) -> RunResult:
    state = fold(read_events(run_dir))
    log = read_log(run_dir)
    verdict = judge(rc, state, log, interrupted)
    write_history(run_dir, job, verdict.status, state.finished)
    bad = verdict.status in ("failed", "unreachable")
    return RunResult(
        status=verdict.status,
        rc=rc,
        explanation=verdict.explanation,
        hosts=state.stats or {},
        failure=first_failure(state) if bad and not verdict.explanation else None,
        failures=state.failures,
        debug_messages=state.messages,
        diffs=state.diffs,
        warnings=state.warnings,
        tasks=state.finished,
        unfinished=state.task,
        duration=duration,
        log_dir=run_dir,
    )


class _Watch:
    """Follows a run: keeps its state, feeds the display, and knows whether somebody wants it to stop."""

    def __init__(self, display: Display | None) -> None:
        self.state = RunState()
        self.interrupted = False
        self._display = display
        self._kill_at = float("inf")

    @contextlib.contextmanager
    def showing(self) -> Iterator[None]:
        """Show the run meanwhile."""
        self._show(lambda display: display.start())
        try:
            yield
        finally:
            self._show(lambda display: display.stop())

    def event(self, event: dict[str, Any]) -> bool:
        """Take in an event. Called by the runner before it writes the event to disk; True: write it."""
        _drop_invocations(event)
        before, self.state = self.state, apply(self.state, event)
        self._show(lambda display: display.update(before, self.state))
        return True

    def tick(self) -> bool:
        """Called by the runner about once every TICK; True: kill ansible-playbook."""
        now = time.time()
        self._show(lambda display: display.tick(self.state, now))
        return now >= self._kill_at

    def interrupt(self, signum: int, frame: FrameType | None) -> None:
        """Ask ansible-playbook to stop; kill it when asked twice, when it takes too long, or before its first event."""
        pid = self.state.pid
        if self.interrupted or pid is None:
            self.interrupted, self._kill_at = True, 0.0
            return
        self.interrupted, self._kill_at = True, time.time() + GRACE
        self._show(lambda display: display.notice("Interrupted: Ansible is stopping. Once more to stop at once."))
        # Not SIGKILL: its workers are in sessions of their own, and only it knows them.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(pid, signal.SIGINT)

    def _show(self, action: Callable[[Display], None]) -> None:
        if self._display is None:
            return
        try:
            action(self._display)
        except Exception:
            # Usually the terminal or the pipe is gone. The run is not: it goes on unseen, and its log is complete.
            self._display = None


@contextlib.contextmanager
def _signals_to(watch: _Watch) -> Iterator[None]:
    """Let the signals that end a program stop the run in good order instead; only the main thread can."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    wanted = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.signal(number, watch.interrupt) for number in wanted}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _drop_invocations(event: Mapping[str, Any]) -> None:
    """Leave out of an event what Ansible itself does not print: the modules' arguments, which may hold secrets."""
    result = (event.get("event_data") or {}).get("res")
    if not isinstance(result, dict):
        return
    result.pop("invocation", None)
    items = result.get("results")
    for item in items if isinstance(items, list) else []:
        if isinstance(item, dict):
            item.pop("invocation", None)


def _forget_command(status: Mapping[str, Any], runner_config: Any) -> None:
    """Remove the runner's note of command line and environment: both may hold secrets."""
    (Path(runner_config.artifact_dir) / "command").unlink(missing_ok=True)


def _forget_unfinished(run_dir: Path) -> None:
    """Remove events that were never completed: their results still have the modules' arguments."""
    for path in (run_dir / "job_events").glob("*-partial.json*"):
        path.unlink(missing_ok=True)
