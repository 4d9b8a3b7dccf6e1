"""One table of what the proof saw: a row per GPU, or per host where there is none to show."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

COLUMNS = (
    *("host", "gpu", "name", "pci", "uuid", "driver", "GiB"),
    *("context s", "in GB/s", "out GB/s", "fabric", "remap", "verdict"),
)


def rows(
    name: str, proof: Mapping[str, Any], host: Mapping[str, Any], findings: Sequence[Mapping[str, str]]
) -> list[dict[str, str]]:
    """Return the rows of one host; a finding that names no GPU stands in all of them."""
    driver = ((host.get("nvidia") or {}).get("module") or {}).get("version")
    if not proof["gpus"]:
        verdict = _verdict(findings)
        return [_row(host=name, driver=driver, verdict=verdict)]
    smi = {gpu["uuid"]: gpu for gpu in host.get("gpus") or []}
    found = []
    for gpu in proof["gpus"]:
        seen, seconds, mine = smi.get(gpu["uuid"], {}), gpu["seconds"], f"GPU {gpu['index']} "
        own = [f for f in findings if mine in f["message"] or not f["message"].startswith("GPU ")]
        total = gpu.get("memory_total_bytes")
        found.append(
            _row(
                host=name,
                gpu=gpu["index"],
                name=gpu["name"].removeprefix("NVIDIA "),
                pci=gpu["pci_address"],
                uuid=gpu["uuid"][4:12],
                driver=driver,
                GiB=f"{total / 2**30:.0f}" if total else None,
                **{"context s": f"{seconds['context']:.2f}" if "context" in seconds else None},
                **{"in GB/s": gpu.get("gb_per_s_to_gpu"), "out GB/s": gpu.get("gb_per_s_to_host")},
                fabric=seen.get("fabric_state"),
                remap={True: "pending", False: "none"}.get(seen.get("remap_pending")),
                verdict=_verdict(own),
            )
        )
    return found


def _row(**cells: object) -> dict[str, str]:
    return {column: "-" if cells.get(column) is None else str(cells[column]) for column in COLUMNS}


def _verdict(findings: Iterable[Mapping[str, str]]) -> str:
    return ", ".join(dict.fromkeys(f["code"] for f in findings)) or "ok"


def render(lines: Sequence[Mapping[str, str]]) -> str:
    """Return rows as text in columns."""
    cells = [COLUMNS, *(tuple(line[column] for column in COLUMNS) for line in lines)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    padded = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells)
    return "\n".join(padded)
