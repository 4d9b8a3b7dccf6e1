"""docs/broken-servers.md: which check notices which broken server. `scripts/broken-servers-matrix [--check]`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from tests.broken_servers.broken import Broken
from tests.broken_servers.catalogue import CATALOGUE
from tests.broken_servers.stub import QUESTIONS
from vllm_fleet.verify.endpoint import GATEWAY
from vllm_fleet.verify.registry import registered
from vllm_fleet.verify.run import ServerResult

FILE = Path(__file__).parents[2] / "docs" / "broken-servers.md"
KIND_NAMES = {"llm": "Language model", "embedding": "Embedding server", "rerank": "Reranker", GATEWAY: "Gateway"}
HEAD = """\
# Broken servers

<!-- Written by scripts/broken-servers-matrix from tests/broken_servers; a test holds the two together. -->

What the [verification](verification.md) is held against: {count} servers and gateways, each wrong in exactly one way,
and which of the {checks} checks notice. All of them are stubs that answer as vLLM or the gateway does, but for the one
fault: what a real vLLM can be made to do wrong is tried with a real one in `tests/integration/test_verify_real.py`. A
healthy stub passes all.

**✗** failed: this check says what is wrong. **·** passed. Blank: not run, since a check before it was decisive, or
since the answer or the server has not what the check needs. No check fails but those marked, and every check notices
something.
"""


def text(results: Mapping[str, ServerResult]) -> str:
    """The page, from the results by the broken servers' ids."""
    checks = {one.id for kind in KIND_NAMES for one in registered(kind, QUESTIONS)}
    parts = [HEAD.format(count=len(CATALOGUE), checks=len(checks))]
    parts += ["\n".join(_section(kind, results)) for kind in KIND_NAMES]
    return "\n".join(parts)


def _section(kind: str, results: Mapping[str, ServerResult]) -> Iterator[str]:
    servers = [one for one in CATALOGUE if one.kind == kind]
    yield f"## {KIND_NAMES[kind]}"
    yield "| | wrong in that | the finding |"
    yield "| --- | --- | --- |"
    for number, one in enumerate(servers, 1):
        yield f"| {number} | {one.wrong} | {_cell(_finding(one, results[one.id]))} |"
    yield ""
    yield f"| check | {' | '.join(str(number) for number in range(1, len(servers) + 1))} |"
    yield "| --- |" + " --- |" * len(servers)
    marks = [_marks(results[one.id]) for one in servers]
    for check in registered(kind, QUESTIONS):
        yield f"| `{check.id}` | {' | '.join(column[check.id] for column in marks)} |"
    yield ""


def _finding(broken: Broken, result: ServerResult) -> str:
    """What the first failed check expected."""
    return f"`{result.failures[0].check}` expected {result.failures[0].expected}"


def _cell(words: str) -> str:
    return words.replace("|", "\\|").replace("<", "&lt;")


def _marks(result: ServerResult) -> dict[str, str]:
    marks = {"failed": "✗", "passed": "·", "not run": ""}
    return {one.check: marks[one.status] for one in result.outcomes}


def main() -> int:
    """Write the page, or with --check say whether it is up to date."""
    parser = argparse.ArgumentParser(prog="scripts/broken-servers-matrix", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; status 1 where the page is out of date")
    options = parser.parse_args()
    page = text({one.id: one.verify() for one in CATALOGUE})
    if not options.check:
        FILE.write_text(page, encoding="utf-8")
        return 0
    if FILE.read_text(encoding="utf-8") == page:
        return 0
    print(f"{FILE} is out of date: run scripts/broken-servers-matrix", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
