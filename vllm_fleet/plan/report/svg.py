"""Devices' bars as a picture (SVG 1.1) that needs no other file.

The hue says which server, the pattern which part, so that nothing rests on colour alone. A whisker shows how far the
boundary between what is fixed and the KV cache may be off. Every piece has its text alternative. Colours are
attributes, which any renderer knows; a style sheet replaces them where a dark page is preferred.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from xml.etree import ElementTree
from xml.etree.ElementTree import Element, SubElement

from vllm_fleet.plan.report.bars import Bar, Part, Row, Segment, bars
from vllm_fleet.plan.report.figures import gib, with_error
from vllm_fleet.plan.report.hosts import Report, alike, summary
from vllm_fleet.plan.report.words import device_title, devices, names, total
from vllm_fleet.plan.sentences import counted

# Sizes in the picture's own units, which are pixels where it is shown in its own size.
WIDTH, MARGIN, BAR, LINE = 960, 12, 30, 20
# Of the fonts below, on the average; only for what stands beside each other.
LETTER = 7.3
FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, sans-serif"
INK, GROUND, GREY = "#1f2328", "#ffffff", "#8c959f"
HUES = ("#0b7285", "#a61e4d", "#2b8a3e", "#1864ab", "#b35c00", "#6741d9", "#5c940d", "#862e9c")
DARK = {
    "ink": "fill: #e6edf3",
    "line": "stroke: #e6edf3",
    "ground": "fill: #0d1117",
    "lines": "stroke: #0d1117",
    **{
        f"hue{number}": f"fill: {colour}"
        for number, colour in enumerate(
            ("#3bc9db", "#f06595", "#51cf66", "#4dabf7", "#ffa94d", "#9775fa", "#a9e34b", "#cc5de8")
        )
    },
}
OPACITY = {
    Part.WEIGHTS: 1.0,
    Part.OVERHEAD: 0.8,
    Part.KV_CACHE: 0.45,
    Part.SPARE: 0.15,
    Part.CONTEXT: 0.7,
    Part.UNKNOWN: 0.3,
}
# Patterns over the hue: lines, by the path that is repeated in a square of this size.
SQUARE = 6
PATTERNS = {"hatch": "M0 6 L6 0", "cross": "M0 6 L6 0 M0 0 L6 6", "rows": "M0 3 H6"}
OVER = {Part.OVERHEAD: "hatch", Part.CONTEXT: "rows", Part.UNKNOWN: "cross", Part.HELD: "cross"}


def as_svg(report: Report) -> str:
    """Return one picture of all hosts; hosts that are alike are drawn once, those without a plan are named."""
    root = _canvas("plan", "Serving plan", summary(report))
    drawing = _Drawing(root, "plan")
    ground = SubElement(root, "rect", {"width": "100%", "height": "100%", "fill": GROUND, "class": "ground"})
    drawing.legend()
    for group in alike(report.hosts):
        drawing.y += 6
        drawing.text(names(group), bold=True, size=15)
        plan = group[0].plan
        if plan is None:
            drawing.text(f"refused for {counted(group[0].errors, 'error')}")
        elif plan["devices"]:
            drawing.bars(bars(plan), plan["backend"] == "cpu")
        else:
            drawing.text(devices(plan))
    ground.set("height", _number(drawing.y + MARGIN))
    return _serialised(root, drawing.y + MARGIN)


def bars_svg(plan: Mapping[str, Any], prefix: str, label: str) -> str:
    """Return a picture of one host's bars for a page, on which ``prefix`` makes its ids unique."""
    root = _canvas(prefix, label, "; ".join(_described(bars(plan), plan["backend"] == "cpu")))
    drawing = _Drawing(root, prefix)
    drawing.legend()
    drawing.bars(bars(plan), plan["backend"] == "cpu")
    return _serialised(root, drawing.y)


def _described(all_bars: Sequence[Bar], on_processors: bool) -> Iterator[str]:
    for bar in all_bars:
        yield f"{device_title(bar, on_processors)}: {', '.join(f'{row.label} {total(row)}' for row in bar.rows)}"


def _canvas(prefix: str, label: str, description: str) -> Element:
    root = Element(
        "svg", {"xmlns": "http://www.w3.org/2000/svg", "role": "img", "font-family": FONT, "font-size": "13"}
    )
    root.set("aria-labelledby", f"{prefix}-title {prefix}-description")
    SubElement(root, "title", id=f"{prefix}-title").text = label
    SubElement(root, "desc", id=f"{prefix}-description").text = description
    rules = " ".join(f".{name} {{ {rule} }}" for name, rule in DARK.items())
    SubElement(root, "style").text = f"@media (prefers-color-scheme: dark) {{ {rules} }}"
    definitions = SubElement(root, "defs")
    for name, path in PATTERNS.items():
        size = {"width": str(SQUARE), "height": str(SQUARE), "patternUnits": "userSpaceOnUse"}
        pattern = SubElement(definitions, "pattern", {"id": f"{prefix}-{name}", **size})
        SubElement(pattern, "path", {"d": path, "stroke": GROUND, "stroke-width": "1.5", "class": "lines"})
    return root


def _serialised(root: Element, height: float) -> str:
    root.set("viewBox", f"0 0 {WIDTH} {_number(height)}")
    root.set("width", str(WIDTH))
    root.set("height", _number(height))
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="unicode") + "\n"


class _Drawing:
    """A picture that grows downwards; ``y`` is where the next thing goes."""

    def __init__(self, root: Element, prefix: str) -> None:
        self.root = root
        self.prefix = prefix
        self.y: float = MARGIN

    def text(self, text: str, x: float = MARGIN, bold: bool = False, size: int = 13, advance: bool = True) -> None:
        weight = {"font-weight": "600"} if bold else {}
        at = {"x": _number(x), "y": _number(self.y + 14), "fill": INK, "class": "ink", "font-size": str(size), **weight}
        SubElement(self.root, "text", at).text = text
        self.y += LINE if advance else 0

    def legend(self) -> None:
        """Say what the patterns mean."""
        self._items([Row(str(part), (Segment(part, 1),), 0 if part in OPACITY else None) for part in Part])
        self.y += 6

    def bars(self, all_bars: Sequence[Bar], on_processors: bool) -> None:
        """Draw bars below each other, each with its title and what is in it."""
        for bar in all_bars:
            self.text(device_title(bar, on_processors))
            self._bar(bar)
            self.y += BAR + 4
            self._items(bar.rows, amounts=True)
            self.y += 6

    def _bar(self, bar: Bar) -> None:
        scale = (WIDTH - 2 * MARGIN) / bar.scale
        frame = {"x": str(MARGIN), "y": _number(self.y), "width": _number(bar.memory * scale), "height": str(BAR)}
        SubElement(self.root, "rect", frame | {"fill": "none", "stroke": GREY})
        position, boundaries = 0, []
        for row in bar.rows:
            group = SubElement(self.root, "g")
            SubElement(group, "title").text = _tooltip(row)
            for segment in row.segments:
                x = MARGIN + position * scale
                self._piece(group, segment.part, row.number, (x, self.y, segment.size * scale, BAR))
                position += segment.size
                if segment.part is Part.OVERHEAD:
                    boundaries.append((position, segment.error + row.amount(Part.WEIGHTS).error))
        for boundary, error in boundaries:
            self._whisker(MARGIN + boundary * scale, error * scale)
        if bar.held + bar.limit < bar.memory:
            at = _number(MARGIN + (bar.held + bar.limit) * scale)
            line = {"x1": at, "x2": at, "y1": _number(self.y - 3), "y2": _number(self.y + BAR + 3), "stroke": INK}
            limit = SubElement(self.root, "line", line | {"stroke-dasharray": "3 2", "class": "line"})
            SubElement(limit, "title").text = f"servers may take {gib(bar.limit)} GiB"

    def _piece(self, parent: Element, part: Part, number: int | None, at: tuple[float, float, float, float]) -> None:
        """Draw one segment, or its sample in a legend, at x and y with a width and a height."""
        place = dict(zip(("x", "y", "width", "height"), map(_number, at), strict=True))
        if part is Part.FREE:
            SubElement(parent, "rect", place | {"fill": "none", "stroke": GREY, "stroke-dasharray": "2 2"})
            return
        fill = GREY if number is None else HUES[number % len(HUES)]
        colour = {"fill": fill, "fill-opacity": f"{OPACITY.get(part, 0.6):g}"}
        hue = {} if number is None else {"class": f"hue{number % len(HUES)}"}
        SubElement(parent, "rect", place | colour | hue)
        if part in OVER:
            SubElement(parent, "rect", place | {"fill": f"url(#{self.prefix}-{OVER[part]})"})

    def _whisker(self, x: float, error: float) -> None:
        if error >= 1:
            middle = self.y + BAR / 2
            left, right = _number(max(x - error, MARGIN)), _number(min(x + error, WIDTH - MARGIN))
            ends = " ".join(f"M{end} {_number(middle - 4)} V{_number(middle + 4)}" for end in (left, right))
            path = f"M{left} {_number(middle)} H{right} {ends}"
            ink = {"stroke": INK, "stroke-width": "1.5", "fill": "none", "class": "line"}
            SubElement(self.root, "path", {"d": path, **ink})

    def _items(self, rows: Sequence[Row], amounts: bool = False) -> None:
        """Name the rows beside samples of their colours, in as many lines as that takes."""
        x: float = MARGIN
        for row in rows:
            text = _amounts(row) if amounts else row.label
            width = 18 + LETTER * len(text) + 18
            if x > MARGIN and x + width > WIDTH:
                x, self.y = MARGIN, self.y + LINE
            part = row.segments[0].part if row.segments else Part.UNKNOWN
            self._piece(self.root, part, row.number, (x, self.y + 4, 12, 12))
            self.text(text, x + 18, advance=False)
            x += width
        self.y += LINE


def _amounts(row: Row) -> str:
    share = "" if row.share is None else f", share {row.share:.2f}"
    return f"{row.label} {total(row)} GiB{share}"


def _tooltip(row: Row) -> str:
    parts = [f"{one.part} {with_error(one.size, one.error)}" for one in row.segments]
    return f"{_amounts(row)}: {', '.join(parts)}"


def _number(value: float) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".")
