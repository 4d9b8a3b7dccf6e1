"""Ctrl-C while a program still loads its modules: no traceback."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PROGRAMS = sorted(path.parent.name for path in (ROOT / "vllm_fleet").glob("*/__main__.py"))

LOAD_AND_INTERRUPT = """
import os, runpy, signal, sys
class Interrupt:
    def find_spec(self, name, path=None, target=None):
        if name == module + ".cli":
            os.kill(os.getpid(), signal.SIGINT)
signal.signal(signal.SIGINT, {before})
sys.meta_path.insert(0, Interrupt())
module, sys.argv = sys.argv[1], [sys.argv[1], "--help"]
runpy.run_module(module, run_name="__main__")
"""


def interrupted_while_it_loads(program: str, before: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", LOAD_AND_INTERRUPT.format(before=before), f"vllm_fleet.{program}"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("program", PROGRAMS)
def test_an_interrupt_ends_it_in_silence(program: str) -> None:
    done = interrupted_while_it_loads(program, "signal.default_int_handler")
    assert (done.returncode, done.stdout, done.stderr) == (-2, "", "")


@pytest.mark.parametrize("program", PROGRAMS)
def test_an_ignored_interrupt_stays_ignored(program: str) -> None:
    done = interrupted_while_it_loads(program, "signal.SIG_IGN")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("usage: ")
