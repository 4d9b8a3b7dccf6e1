"""The report as SVG and as a page: well-formed, self-contained, with everything in words as well."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from xml.etree import ElementTree

import pytest

from tests.unit.plan.report.examples import GIB, REFUSAL, WARNING, eight, guide, many_hosts, one_host, other_hosts
from vllm_fleet.plan.report.hosts import Report, host_report
from vllm_fleet.plan.report.html import as_html
from vllm_fleet.plan.report.svg import MARGIN, WIDTH, as_svg

SVG = "{http://www.w3.org/2000/svg}"
REPORTS = {"one": one_host(), "many": many_hosts(), "other": other_hosts()}
VOID = {"meta", "br", "hr", "img", "link", "input"}


def words(svg: str) -> str:
    return " ".join(ElementTree.fromstring(svg).itertext())


@pytest.mark.parametrize("report", REPORTS.values(), ids=REPORTS)
def test_nothing_is_drawn_outside_the_picture(report: Report) -> None:
    root = ElementTree.fromstring(as_svg(report))
    height = float(root.attrib["height"])
    for one in root.iter(f"{SVG}rect"):
        if not one.attrib["width"].endswith("%"):
            assert MARGIN <= float(one.attrib["x"]) <= float(one.attrib["x"]) + float(one.attrib["width"])
            assert float(one.attrib["x"]) + float(one.attrib["width"]) <= WIDTH - MARGIN + 0.01
            assert float(one.attrib["y"]) + float(one.attrib["height"]) <= height
    assert all(float(one.attrib["y"]) <= height for one in root.iter(f"{SVG}text"))


def test_lengths_are_in_proportion_to_bytes() -> None:
    root = ElementTree.fromstring(as_svg(one_host()))
    widths = {
        group.findtext(f"{SVG}title", ""): [float(rect.attrib["width"]) for rect in group.iter(f"{SVG}rect")]
        for group in root.iter(f"{SVG}g")
    }
    (llm,) = {tuple(found) for title, found in widths.items() if title.startswith("llm")}
    unit = (WIDTH - 2 * MARGIN) / 45
    # Patterns lie over the colours of overhead and context.
    assert llm == pytest.approx([size * unit for size in (2.9, 2.6, 2.6, 32.3, 0.5, 0.5)], abs=0.02)


def test_a_picture_says_in_words_what_it_shows() -> None:
    root = ElementTree.fromstring(as_svg(one_host()))
    ids = {one.attrib["id"] for one in root.iter() if "id" in one.attrib}
    assert root.attrib["role"] == "img"
    assert set(root.attrib["aria-labelledby"].split()) <= ids
    text = words(as_svg(one_host()))
    for one in (
        "GPU 1 NVIDIA L40S, 45.0 GiB, of which servers may take 42.8",
        "llm 38.3 GiB, share 0.84: weights 2.9, overhead 2.6 ±0.6, KV cache 32.3 ±0.6, context 0.50 ±0.20",
        "rerank 4.5 GiB, share 0.10: weights 1.1, overhead 1.4 ±0.5, spare 1.5, context 0.50 ±0.20",
        "a run would start 1, restart 1, stop 1 and leave 1 running",
    ):
        assert one in " ".join(text.split())
    assert "refused for 1 error" in words(as_svg(many_hosts(5)))


def test_what_others_hold_does_not_count_against_what_servers_may_take() -> None:
    made = eight()
    made["devices"] = made["devices"][:1]
    root = ElementTree.fromstring(as_svg(Report((host_report("h", made, [], None),))))
    (limit,) = root.iter(f"{SVG}line")
    assert float(limit.attrib["x1"]) == pytest.approx(MARGIN + (3 + 73) / 80 * (WIDTH - 2 * MARGIN), abs=0.02)


@pytest.mark.parametrize("form", [as_svg, as_html])
@pytest.mark.parametrize("report", REPORTS.values(), ids=REPORTS)
def test_nothing_is_fetched_from_elsewhere(report: Report, form: object) -> None:
    text = form(report)  # type: ignore[operator]
    assert not re.search(r"""(?:src|href)=["'](?!#)|@import|url\((?!#)|<script|<link""", text)


class Balance(HTMLParser):
    """Fails where an element is closed that was not opened last; collects ids and anchors."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.anchors: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in VOID:
            self.open.append(tag)
        for name, value in attrs:
            self.ids += [value or ""] if name == "id" else []
            self.anchors += [(value or "").removeprefix("#")] if name == "href" else []

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


@pytest.mark.parametrize("report", REPORTS.values(), ids=REPORTS)
def test_the_page_is_balanced_and_its_ids_are_unique(report: Report) -> None:
    page = Balance()
    page.feed(as_html(report))
    assert page.open == []
    assert len(set(page.ids)) == len(page.ids)
    assert set(page.anchors) <= set(page.ids)


@pytest.mark.parametrize(
    "words",
    [
        "gpu-001, gpu-002, gpu-003 and 194 more (197 hosts, all alike)",
        "gpu-042",
        REFUSAL["message"],
        WARNING["message"],
        "<td>1,881,611 ±2%</td><td>57.4 of 32,768 tokens</td>",
        "<th scope=\"row\">embedding</th>",
        "vllm serve /var/lib/vllm-fleet/models/llm --dtype float16",
        "HF_HUB_OFFLINE=1",
        "not begin: 1 error",
    ],
)  # fmt: skip
def test_the_page_tells_everything(words: str) -> None:
    assert words in as_html(many_hosts())


@pytest.mark.parametrize("form", [as_svg, as_html])
def test_names_are_text_and_never_markup(form: object) -> None:
    made = guide("<b>&")
    made["devices"][0] |= {"name": "<i>GPU & co</i>", "memory_bytes": 50 * GIB}
    report = Report((host_report("<b>&", made, [WARNING | {"message": "<script>x</script>"}], None),), "<u>")
    text = form(report)  # type: ignore[operator]
    assert not re.search(r"<b>|<i>|<u>|<script", text)
    assert "&lt;i&gt;GPU &amp; co" in text
