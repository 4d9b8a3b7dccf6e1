"""Let a lab's packets through this machine's firewall, and take exactly that back.

An accept in a table of the lab's own would not help: a drop anywhere else is final. So the rules go into the chain that
drops, name only the lab's bridge, and carry a comment by which they are found again.
"""

from __future__ import annotations

import json
import shlex
import shutil
from dataclasses import dataclass
from pathlib import Path

from vllm_fleet.errors import FleetError
from vllm_fleet.lab.process import run, succeeds
from vllm_fleet.lab.settings import Settings


@dataclass(frozen=True)
class Chain:
    """A chain of nftables that sees forwarded packets and drops what it does not know."""

    family: str
    table: str
    name: str

    @property
    def words(self) -> tuple[str, str, str]:
        """How nft names it."""
        return (self.family, self.table, self.name)


def open_for(settings: Settings) -> list[str]:
    """Add what lets the lab's hosts reach each other and the outside; returns each firewall that needed it."""
    said = []
    chains = dropping(run(["nft", "-j", "list", "chains"]))
    if "-P FORWARD DROP" in (listing := _iptables_listing()):
        # iptables refuses to work on a table in which nft has used matches it does not know.
        chains = [chain for chain in chains if chain.words != ("ip", "filter", "FORWARD")]
        if _add_iptables_rules(settings, "DOCKER-USER" if "-N DOCKER-USER" in listing else "FORWARD"):
            said.append("iptables")
    said += [f"nftables chain {' '.join(chain.words)}" for chain in chains if _add_nft_rules(settings, chain)]
    if _firewalld_runs() and not succeeds(["firewall-cmd", "--zone=trusted", f"--query-interface={settings.bridge}"]):
        run(["firewall-cmd", "--zone=trusted", f"--add-interface={settings.bridge}"])
        said.append("firewalld")
    return said


def close_for(settings: Settings) -> None:
    """Remove every rule that `open_for` has added."""
    for rule in _iptables_listing():
        words = shlex.split(rule)
        if words[0] == "-A" and _comment(settings) in words:
            succeeds(["iptables", "-w", "-D", *words[1:]])
    for chain, handle in own_rules(run(["nft", "-j", "-a", "list", "ruleset"]), _comment(settings)):
        succeeds(["nft", "delete", "rule", *chain.words, "handle", str(handle)])
    if _firewalld_runs():
        succeeds(["firewall-cmd", "--zone=trusted", f"--remove-interface={settings.bridge}"])


def dropping(chains: str) -> list[Chain]:
    """Return the dropping chains of the forward hook in `nft -j list chains`, IPv4 only."""
    found = []
    for entry in json.loads(chains)["nftables"]:
        chain = entry.get("chain", {})
        if chain.get("hook") == "forward" and chain.get("policy") == "drop" and chain["family"] in ("ip", "inet"):
            found.append(Chain(chain["family"], chain["table"], chain["name"]))
    return found


def own_rules(ruleset: str, comment: str) -> list[tuple[Chain, int]]:
    """Return chain and handle of every rule with this comment in `nft -j -a list ruleset`."""
    rules = [entry["rule"] for entry in json.loads(ruleset)["nftables"] if "rule" in entry]
    return [
        (Chain(rule["family"], rule["table"], rule["chain"]), rule["handle"])
        for rule in rules
        if rule.get("comment") == comment
    ]


def _comment(settings: Settings) -> str:
    """What marks a rule as this lab's."""
    return f"vllm-fleet lab {settings.prefix}"


def _add_nft_rules(settings: Settings, chain: Chain) -> bool:
    """Let the bridge's packets pass a chain; False if they do already."""
    listed = own_rules(run(["nft", "-j", "-a", "list", "chain", *chain.words]), _comment(settings))
    if listed:
        return False
    for direction in ("iifname", "oifname"):
        match = [direction, settings.bridge, "counter", "accept", "comment", f'"{_comment(settings)}"']
        run(["nft", "insert", "rule", *chain.words, *match])
    return True


def _iptables_listing() -> list[str]:
    """Return iptables' rules as it prints them, nothing where it is not in use: asking it could make its tables."""
    legacy = Path("/proc/net/ip_tables_names")  # what iptables-legacy does is not visible to nft
    in_use = legacy.exists() and "filter" in legacy.read_text().split()
    if not shutil.which("iptables") or not (in_use or succeeds(["nft", "list", "chain", "ip", "filter", "FORWARD"])):
        return []
    try:
        return run(["iptables", "-w", "-S"]).splitlines()
    except FleetError:  # a table of that name which nft made, and iptables cannot read
        return []


def _iptables_rules(settings: Settings) -> list[list[str]]:
    """What hosts send, and the answers to it."""
    mark = ["-m", "comment", "--comment", _comment(settings)]
    answers = ["-m", "conntrack", "--ctstate", "RELATED,ESTABLISHED"]
    return [
        ["-i", settings.bridge, *mark, "-j", "ACCEPT"],
        ["-o", settings.bridge, *answers, *mark, "-j", "ACCEPT"],
    ]


def _add_iptables_rules(settings: Settings, chain: str) -> bool:
    """Put the rules into DOCKER-USER where it exists (it survives a restart of Docker); False if they are there."""
    missing = [rule for rule in _iptables_rules(settings) if not succeeds(["iptables", "-w", "-C", chain, *rule])]
    for rule in missing:
        run(["iptables", "-w", "-I", chain, *rule])
    return bool(missing)


def _firewalld_runs() -> bool:
    """Whether firewalld is in charge; it accepts by policy and rejects at its end, so no policy shows it."""
    return shutil.which("firewall-cmd") is not None and succeeds(["firewall-cmd", "--state"])
