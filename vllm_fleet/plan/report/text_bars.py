"""Devices' bars in characters: one row for each server, so that they can be read without colours.

The rows of a bar follow each other from left to right as they lie in the device's memory::

                                                    weights  overhead  KV cache  spare     context   GiB
     GPU 0  NVIDIA L40S, 45.0 GiB, of which servers may take 42.8
      llm        0.84  ██▒▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓          2.9  2.6 ±0.6      32.3         0.50 ±0.20  38.3
      embedding  0.10                         █░▚       1.1  1.4 ±0.5              1.5  0.50 ±0.20   4.5
      free                                       ·                                                   2.2
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.text import Text

from vllm_fleet.plan.report.bars import Bar, Part, Row
from vllm_fleet.plan.report.figures import with_error
from vllm_fleet.plan.report.words import device_title, total

GLYPHS = {
    Part.WEIGHTS: "█",
    Part.OVERHEAD: "▒",
    Part.KV_CACHE: "▓",
    Part.SPARE: "░",
    Part.CONTEXT: "▚",
    Part.UNKNOWN: "?",
    Part.HELD: "x",
    Part.FREE: "·",
}
# What stands for them, and for other characters of the report, where the encoding has only ASCII.
ASCII = str.maketrans({"█": "#", "▒": "+", "▓": "=", "░": "-", "▚": "%", "·": ".", "±": "~", "─": "-"})
COLOURS = ("cyan", "magenta", "green", "blue", "yellow", "bright_cyan", "bright_magenta", "bright_green")
COLUMNS = (Part.WEIGHTS, Part.OVERHEAD, Part.KV_CACHE, Part.SPARE, Part.CONTEXT)
HEADINGS = (*map(str, COLUMNS), "GiB")
# A shorter bar shows nothing beside its amounts, which then go below it; on the narrowest terminal it is this short.
LEAST_BESIDE, LEAST = 24, 8


def legend() -> Text:
    """Return what the characters mean."""
    glyphs = "  ".join(f"{glyph} {part}" for part, glyph in GLYPHS.items())
    return Text(f"{glyphs}\nsizes in GiB, ± how far an estimate may be off")


def draw(bars: Sequence[Bar], width: int, on_processors: bool = False) -> Iterator[Text]:
    """Yield the lines of a host's bars, which have their columns in common.

    Args:
        bars: its devices.
        width: columns; more are used only where names leave no room at all.
        on_processors: the only device is the main memory.
    """
    rows = [row for bar in bars for row in bar.rows]
    labels = max(len(_label(row)) for row in rows)
    shares = max(len(_share(row)) for row in rows)
    left = labels + (shares + 2 if shares else 0) + 2
    amounts = [max(map(len, column)) for column in zip(HEADINGS, *map(_amounts, rows), strict=True)]
    cells = width - left - sum(amounts) - 2 * len(amounts)
    beside = cells >= LEAST_BESIDE
    if beside:
        yield Text(" " * (left + cells) + _columns(HEADINGS, amounts), style="dim")
    else:
        cells = max(width - left, LEAST)
    for bar in bars:
        yield Text(f" {device_title(bar, on_processors)}", style="bold")
        start = 0
        for row in bar.rows:
            line = Text(_label(row).ljust(labels) + (f"  {_share(row):<{shares}}" if shares else "") + "  ")
            line.append_text(_drawn(row, start, bar.scale, cells))
            start += row.size
            if beside:
                line.append(_columns(_amounts(row), amounts))
            yield line
            if not beside:
                yield Text(f"    {_sentence(row)}")


def _label(row: Row) -> str:
    return f"  {row.label}{f' x{row.ranks}' if row.ranks > 1 else ''}"


def _share(row: Row) -> str:
    return "" if row.share is None else f"{row.share:.2f}"


def _amounts(row: Row) -> list[str]:
    # That of the KV cache stands at the number of its tokens.
    pieces = [(row.amount(part), part is not Part.KV_CACHE) for part in COLUMNS]
    return [
        *(with_error(one.size, one.error if told else 0) if one.size else "" for one, told in pieces),
        total(row),
    ]


def _columns(cells: Sequence[str], sizes: Sequence[int]) -> str:
    return "".join(f"  {cell:>{size}}" for cell, size in zip(cells, sizes, strict=True))


def _sentence(row: Row) -> str:
    parts = [f"{one.part} {with_error(one.size, one.error)}" for one in row.segments if one.part in COLUMNS]
    return f"{total(row)} GiB{': ' if parts else ''}{', '.join(parts)}"


def _drawn(row: Row, start: int, scale: int, cells: int) -> Text:
    """Return the row's part of the bar on the columns that are its own, and blanks elsewhere."""

    def column(position: int) -> int:
        return round(position / scale * cells)

    text, position = "", start
    for segment in row.segments:
        text += GLYPHS[segment.part] * (column(position + segment.size) - column(position))
        position += segment.size
    if not text and row.segments:
        # Too little for a column, and shown all the same.
        text = GLYPHS[max(row.segments, key=lambda segment: segment.size).part]
    before = min(column(start), cells - len(text))
    style = "dim" if row.number is None else COLOURS[row.number % len(COLOURS)]
    return Text.assemble(" " * before, (text, style), " " * (cells - before - len(text)))
