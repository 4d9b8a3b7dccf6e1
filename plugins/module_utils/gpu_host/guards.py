"""What else on a host decides on connections: SELinux, ufw and firewalld."""

from __future__ import annotations

import re

SELINUX = "/sys/fs/selinux"
UFW_RULE = re.compile(r"^### tuple ### (?:allow|limit)\S* (tcp|any) (\S+) \S+ any (\S+) in", re.MULTILINE)
ANYWHERE = ("any", "0.0.0.0/0", "::/0")
EVERY_PORT = (0, 65535)


def read_guards(source):
    """Return selinux, and firewalls, those that are active and refuse what they do not know."""
    return {"selinux": read_selinux(source), "firewalls": [*read_ufw(source), *read_firewalld(source)]}


def read_selinux(source):
    """Return whether SELinux enforces, and whether it lets haproxy use any port; null where it does not say."""
    state = (source.word(SELINUX + "/booleans/haproxy_connect_any") or "").split()
    return {
        "enforcing": source.word(SELINUX + "/enforce") == "1",
        "haproxy_connect_any": state[0] == "1" if state else None,
    }


def read_ufw(source):
    """Return ufw as its own files describe it."""
    enabled = re.search(r"^ENABLED=yes", source.read("/etc/ufw/ufw.conf") or "", re.MULTILINE)
    policy = re.search(r'^DEFAULT_INPUT_POLICY="?(\w+)', source.read("/etc/default/ufw") or "", re.MULTILINE)
    if not enabled or (policy and policy.group(1) == "ACCEPT"):
        return []
    found, found6 = (ufw_rules(source.read(f"/etc/ufw/{file}") or "") for file in ("user.rules", "user6.rules"))
    # Of IPv6 only what names somebody: what is open to everybody there may be closed to IPv4.
    return [{"name": "ufw", "open": found + [rule for rule in found6 if rule["source"]]}]


def ufw_rules(text):
    """Return what a file of ufw's opens."""
    return [rule for _, ports, whom in UFW_RULE.findall(text) for rule in opened(ports, whom)]


def read_firewalld(source):
    """Return firewalld with what its default zone lets in."""
    if source.run("systemctl", "is-active", "firewalld.service").stdout.strip() != "active":
        return []
    zone = source.run("firewall-cmd", "--list-all").stdout
    if re.search(r"^\s*target: ACCEPT", zone, re.MULTILINE):
        return []
    listed = re.search(r"^\s*ports:(.*)", zone, re.MULTILINE)
    ports = re.findall(r"(\S+)/tcp", listed.group(1) if listed else "")
    rules = [rule for port in ports for rule in opened(port, "any")]
    for line in re.findall(r"^\s*rule .*\baccept$", zone, re.MULTILINE):
        port = re.search(r'port port="([^"]+)" protocol="tcp"', line)
        whom = re.search(r'source address="([^"]+)"', line)
        if "invert" not in line and (port or not re.search(r"service|protocol|icmp|port", line)):
            rules += opened(port.group(1) if port else "any", whom.group(1) if whom else "any")
    return [{"name": "firewalld", "open": rules}]


def opened(ports, whom):
    """Return a rule for each port or range in 80,443,6000:6010: first, last, and source, null for anybody."""
    rules = []
    for part in ports.split(","):
        match = re.match(r"(\d+)(?:[:-](\d+))?$", part)
        first, last = (match.group(1), match.group(2) or match.group(1)) if match else EVERY_PORT
        if match or part == "any":
            rules.append({"first": int(first), "last": int(last), "source": None if whom in ANYWHERE else whom})
    return rules
