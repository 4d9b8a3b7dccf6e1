"""docs/dify-example.md: the sheet of the lab's three models. `scripts/python -m tests.dify_example` writes it."""

from __future__ import annotations

from pathlib import Path

import yaml

from vllm_fleet.dify.sheet import as_markdown, make_sheet
from vllm_fleet.gateway.result import GatewayPlan, Instance, Key, Served

ROOT = Path(__file__).resolve().parents[1]
FILE = ROOT / "docs" / "dify-example.md"
HOST, ADDRESS = "lab-1", "10.213.166.2"
BASE = f"https://{ADDRESS}:8443"
# What the lab's encoders read; the language model's length is declared.
ENCODERS = 512


def text() -> str:
    """The page."""
    declared = yaml.safe_load((ROOT / "inventory/lab/group_vars/gpu_hosts.yml").read_text())["model_servers"]
    servers = tuple(
        Served(
            name=one["name"],
            kind=one["kind"],
            model=one["served_model_name"],
            context_length=one.get("max_model_len", ENCODERS),
            tool_calls="tool_call_parser" in one,
            keep_alive_seconds=75,
            url=f"{BASE}/servers/{one['name']}",
            instances=(Instance(HOST, f"vllm-{one['name']}.service", "127.0.0.1", one["port"], BASE),),
        )
        for one in declared
    )
    plan = GatewayPlan(HOST, BASE, "own_ca", servers, (Key("default", 0, 64, None),), {})
    return as_markdown(make_sheet(plan.as_dict(), ca_file=".vllm-fleet/secrets/lab/ca.pem", inventory="inventory/lab"))


if __name__ == "__main__":
    FILE.write_text(text(), encoding="utf-8")
