"""The report as one page that needs no other file: bars, amounts, servers, command lines, differences, problems."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from vllm_fleet.plan.report import figures, words
from vllm_fleet.plan.report.bars import MEANINGS, Part, bars
from vllm_fleet.plan.report.hosts import Report, alike, summary
from vllm_fleet.plan.report.svg import bars_svg
from vllm_fleet.plan.report.text_bars import COLUMNS

TEMPLATE = "plan.html.j2"


def as_html(report: Report) -> str:
    """Return the page. Hosts that are alike share a section."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals |= {
        "words": words,
        "figures": figures,
        "bars": bars,
        "picture": _picture,
        "columns": COLUMNS,
        "meanings": MEANINGS,
        "parts": list(Part),
        "headings": words.SERVER_HEADINGS,
        "environment_of": _environment_of,
    }
    environment.filters["upper_first"] = lambda text: text[:1].upper() + text[1:]
    return environment.get_template(TEMPLATE).render(
        report=report, groups=alike(report.hosts), headline=summary(report)
    )


def _picture(plan: Mapping[str, Any], prefix: str, label: str) -> Markup:
    # Made by ElementTree, which has escaped what is in it.
    return Markup(bars_svg(plan, prefix, label))  # noqa: S704


def _environment_of(server: Mapping[str, Any]) -> str:
    return "\n".join(f"{name}={shlex.quote(value)}" for name, value in sorted(server["env"].items()))
