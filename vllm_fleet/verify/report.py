"""A verification as a table for people, as a page, as JSON and as JUnit XML. No form holds an API key."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from rich import box
from rich.console import Console
from rich.table import Table

from vllm_fleet.verify.endpoint import GATEWAY, Endpoint
from vllm_fleet.verify.outcome import Outcome, Status
from vllm_fleet.verify.run import ServerResult, Verification

# Room for the table where no terminal says how wide it is.
MAX_WIDTH = 200
_INVALID_IN_XML = {code: None for code in range(32) if code not in (9, 10, 13)}


def as_text(verification: Verification, width: int = MAX_WIDTH) -> str:
    """The table, then every failure in a few lines, then a sentence. No line ends in blanks."""
    console = Console(width=width, markup=False, highlight=False, emoji=False, color_system=None)
    with console.capture() as capture:
        console.print(_table(verification))
    return "\n".join([*(line.rstrip() for line in capture.get().splitlines() if line.strip()), *_remarks(verification)])


def _table(verification: Verification) -> Table:
    table = Table("server", "unit", "URL", "model", "dtype", "parallelism", "state", "verified", box=box.SIMPLE_HEAD)
    for server in verification.servers:
        endpoint = server.endpoint
        table.add_row(
            f"{endpoint.name} on {endpoint.host}",
            endpoint.unit,
            endpoint.base_url,
            *served_as(endpoint),
            "answering" if server.answering else "NOT ANSWERING",
            verdict(server),
        )
    return table


def served_as(endpoint: Endpoint) -> tuple[str, str, str]:
    """Model, dtype and parallelism; a gateway has the models of all its servers, and the other two not."""
    if endpoint.kind == GATEWAY:
        return quantity(len(endpoint.served), "model"), "-", "-"
    return endpoint.model, endpoint.dtype, f"tensor {endpoint.tensor_parallel_size}"


def quantity(number: int, thing: str) -> str:
    """Such as `1 server` or `3 servers`."""
    return f"{number} {thing}{'' if number == 1 else 's'}"


def verdict(server: ServerResult) -> str:
    """Such as `14/14 checks`, `12/14 checks, 2 not run` or `failed: served_name, 13 not run`."""
    not_run = server.count(Status.NOT_RUN)
    rest = f", {not_run} not run" if not_run else ""
    if server.failures:
        return f"FAILED: {', '.join(one.check for one in server.failures)}{rest}"
    return f"{server.count(Status.PASSED)}/{len(server.outcomes)} checks{rest}"


def _remarks(verification: Verification) -> Iterator[str]:
    for server in verification.servers:
        for outcome in server.failures:
            yield ""
            yield f"{heading(server, outcome)}"
            yield from explanation(outcome)
        for outcome in server.outcomes:
            if outcome.figures:
                yield f"measured on {server.endpoint.name}: {', '.join(map(str, outcome.figures))}"
        # After a failed decisive check the rest is not run, which the table says already.
        if not server.failures:
            for outcome in server.outcomes:
                if outcome.status is Status.NOT_RUN:
                    yield f"not run: {outcome.check} on {server.endpoint.name}: {outcome.reason}"
    yield ""
    yield summary(verification)


def heading(server: ServerResult, outcome: Outcome) -> str:
    """Server, host, check and its title."""
    return f"{server.endpoint.name} on {server.endpoint.host}: {outcome.check} ({outcome.title})"


def explanation(outcome: Outcome) -> list[str]:
    """Expected, got and usual cause, a line each."""
    return [f"  {label:<9} {text}" for label, text in outcome.explain()]


def summary(verification: Verification) -> str:
    """One sentence."""
    gateways = sum(one.endpoint.kind == GATEWAY for one in verification.servers)
    servers = len(verification.servers) - gateways
    asked = " and ".join(
        quantity(number, thing) for number, thing in ((servers, "server"), (gateways, "gateway")) if number
    )
    total = sum(one.count(Status.PASSED) + one.count(Status.FAILED) for one in verification.servers)
    failed = sum(len(one.failures) for one in verification.servers)
    time = f"{verification.seconds:.1f} s"
    if failed:
        return f"{failed} of {total} checks failed on {asked}, in {time}."
    return f"{asked} proved by {total} checks in {time}."


def as_json(verification: Verification) -> dict[str, Any]:
    """Everything, ready for `json.dump`."""
    return {
        "began": verification.began.isoformat(timespec="seconds"),
        "seconds": round(verification.seconds, 3),
        "passed": verification.passed,
        "servers": [_server_as_json(server) for server in verification.servers],
    }


def _server_as_json(server: ServerResult) -> dict[str, Any]:
    endpoint = server.endpoint
    return {
        "name": endpoint.name,
        "host": endpoint.host,
        "unit": endpoint.unit,
        "kind": endpoint.kind,
        "base_url": endpoint.base_url,
        **(
            {"models": [one.model for one in endpoint.served]}
            if endpoint.kind == GATEWAY
            else {
                "model": endpoint.model,
                "dtype": endpoint.dtype,
                "tensor_parallel_size": endpoint.tensor_parallel_size,
            }
        ),
        "answering": server.answering,
        "verified": verdict(server),
        "checks": [
            {
                "id": one.check,
                "title": one.title,
                "status": str(one.status),
                "seconds": round(one.seconds, 3),
                "figures": {figure.name: round(figure.value, 6) for figure in one.figures},
                **{label.replace(" ", "_"): text for label, text in one.explain()},
            }
            for one in server.outcomes
        ],
    }


def as_html(verification: Verification) -> str:
    """One page that needs no other file: every check with its requests, answers, times and remedies."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    template = environment.get_template("report.html.j2")
    return template.render(
        verification=verification, headline=summary(verification), verdict=verdict, served_as=served_as
    )


def as_junit(verification: Verification) -> bytes:
    """JUnit XML: a suite per server, a case per check."""
    root = ElementTree.Element("testsuites", name="vllm-fleet verification", time=f"{verification.seconds:.3f}")
    for server in verification.servers:
        endpoint = server.endpoint
        suite = ElementTree.SubElement(
            root,
            "testsuite",
            name=f"{endpoint.name} on {endpoint.host}",
            hostname=endpoint.host,
            timestamp=verification.began.isoformat(timespec="seconds"),
            tests=str(len(server.outcomes)),
            failures=str(len(server.failures)),
            errors="0",
            skipped=str(server.count(Status.NOT_RUN)),
            time=f"{sum(one.seconds for one in server.outcomes):.3f}",
        )
        for one in server.outcomes:
            case = ElementTree.SubElement(
                suite,
                "testcase",
                classname=f"{endpoint.host}.{endpoint.name}",
                name=one.check,
                time=f"{one.seconds:.3f}",
            )
            if one.status is Status.FAILED:
                failure = ElementTree.SubElement(
                    case, "failure", message=_xml(f"expected {one.expected}, got {one.got}")
                )
                failure.text = _xml("\n".join([one.title, *explanation(one)]))
            elif one.status is Status.NOT_RUN:
                ElementTree.SubElement(case, "skipped", message=_xml(one.reason))
    ElementTree.indent(root)
    xml: bytes = ElementTree.tostring(root, encoding="utf-8", xml_declaration=True)
    return xml


def _xml(text: str) -> str:
    """`text` without the control characters that XML cannot hold; answers of servers may contain any."""
    return text.translate(_INVALID_IN_XML)
