"""An admin socket that answers as HAProxy 2.6.12 does, for maps, certificates and servers.

The answers, and what breaks off the connection, were recorded from that version with maps of 504 entries. A map's
entries are shown with a pointer before them; of a payload beyond tune.bufsize nothing is answered. The master's socket
answers `show proc` and, after ``@!<pid>``, for a former worker; it does not end a connection before its client does.
"""

from __future__ import annotations

import hashlib
import itertools
import re
import socketserver
import ssl
import threading
from pathlib import Path
from typing import Any

UNKNOWN_MAP = "Unknown map identifier. Please use #<id> or <file>.\n"
STATE_HEADER = (
    "1\n# be_id be_name srv_id srv_name srv_addr srv_op_state srv_admin_state srv_uweight srv_iweight "
    "srv_time_since_last_change srv_check_status srv_check_result srv_check_health srv_check_state srv_agent_state "
    "bk_f_forced_id srv_f_forced_id srv_fqdn srv_port srvrecord srv_use_ssl srv_check_port srv_check_addr "
    "srv_agent_addr srv_agent_port\n"
)
STAT_HEADER = "# pxname,svname,qcur,qmax,scur,smax,status,check_status,last_chk,\n"
BUFFER = 16384


class HAProxy:
    """What a running HAProxy holds; `asked` are the commands it was given."""

    def __init__(self, maps: dict[str, dict[str, str]], certificates: dict[str, str]) -> None:
        self.maps = {path: {0: list(entries.items())} for path, entries in maps.items()}
        self.current = dict.fromkeys(maps, 0)
        self.certificates = dict(certificates)
        self.transaction: tuple[str, str] | None = None
        # admin state, operational state, sessions, queued, status, check
        self.servers: dict[str, list[Any]] = {"gpu-1": [0, 2, 0, 0, "UP", "L7OK"], "gpu-2": [0, 2, 3, 0, "UP", "L7OK"]}
        self.former: dict[int, dict[str, int]] = {}  # sessions of each server, by the pid of a former worker
        self.asked: list[str] = []
        self.versions = itertools.count(1)

    def answer(self, text: str) -> str | None:
        """Return what is answered to a command, None where the connection is broken off."""
        if len(text.encode()) > BUFFER:
            return None
        command, _newline, payload = text.partition("\n")
        words = command.removesuffix(" <<").split()
        self.asked.append(" ".join(words))
        if words == ["show", "proc"]:
            return self.processes() + "\n"
        if words[0].startswith("@!"):
            return STAT_HEADER + "".join(
                f"server_llm,{name},0,0,{sessions},0,UP,L7OK,,\n"
                for name, sessions in self.former[int(words[0][2:])].items()
            )
        if words[1] == "map":
            return self.map(words, payload.strip("\n")) + "\n"
        if words[1:3] == ["ssl", "cert"]:
            return self.certificate(words, payload.strip("\n") + "\n") + "\n"
        return self.server(words) + "\n"

    def processes(self) -> str:
        """Return the master and its workers."""
        former = "".join(f"{pid:<16}worker          1               0d00h00m40s     2.6.12\n" for pid in self.former)
        return (
            "#<PID>          <type>          <reloads>       <uptime>        <version>      \n"
            "5916            master          2 [failed: 0]   0d00h00m41s     2.6.12\n# workers\n"
            "12291           worker          0               0d00h00m02s     2.6.12\n"
            + (f"# old workers\n{former}" if former else "")
            + "# programs\n\n"
        )

    def map(self, words: list[str], payload: str) -> str:
        """Return the answer to a command about a map."""
        verb, path = words[0], words[-1]
        if path not in self.maps:
            return UNKNOWN_MAP
        versions = self.maps[path]
        version = int(words[2][1:]) if words[2].startswith("@") else self.current[path]
        if verb == "prepare":
            new = next(self.versions)
            versions[new] = []
            return f"New version created: {new}\n"
        if verb == "add":
            for line in payload.splitlines():
                key, _space, value = line.partition(" ")
                if not value:
                    return f"Missing value for key '{key}'.\n"
                versions[version].append((key, value.lstrip()))
            return ""
        if verb == "commit":
            if version <= self.current[path]:
                return "Version number out of range.\n"
            self.current[path] = version
            self.maps[path] = {number: entries for number, entries in versions.items() if number >= version}
            return ""
        return "".join(
            f"{0x7FEF7C047AF0 + number:#x} {key} {value}\n" for number, (key, value) in enumerate(versions[version])
        )

    def certificate(self, words: list[str], payload: str) -> str:
        """Return the answer to a command about a certificate."""
        verb, path = words[0], words[-1]
        if words == ["show", "ssl", "cert"]:
            open_ = f"# transaction\n*{self.transaction[0]}\n" if self.transaction else ""
            return open_ + "# filename\n" + "".join(f"{name}\n" for name in self.certificates)
        if verb == "show":
            return (
                self.shown(self.certificates[path])
                if path in self.certificates
                else ("Can't display the certificate: Not found or the certificate is a bundle!\n")
            )
        if verb == "set":
            if self.transaction:
                self.transaction = (self.transaction[0], payload)
                return f"Transaction updated for certificate {self.transaction[0]}!\n"
            if path not in self.certificates:
                return (
                    f"Can't replace a certificate which is not referenced by the configuration!\nCan't update {path}!\n"
                )
            if "PRIVATE KEY" not in payload:
                return f"unable to load certificate from file '{path}'.\nCan't load the payload\nCan't update {path}!\n"
            self.transaction = (path, payload)
            return f"Transaction created for certificate {path}!\n"
        open_path, pem = self.transaction or ("", "")
        self.transaction = None
        if verb == "abort":
            return f"Transaction aborted for certificate '{path}'!\n" if open_path else "No ongoing transaction!\n"
        if "a wrong key" in pem:
            self.transaction = (open_path, pem)
            return f"inconsistencies between private key and certificate loaded '{path}'.\nCan't commit {path}!\n"
        self.certificates[path] = pem
        return f"Committing {path}.\nSuccess!\n"

    def shown(self, pem: str) -> str:
        """Return a certificate as it is shown."""
        blocks = re.findall(r"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", pem, re.DOTALL)
        digest = hashlib.sha1(ssl.PEM_cert_to_DER_cert(blocks[0])).hexdigest().upper()
        chain = "Chain Subject: /CN=ca\nChain Issuer: /CN=ca\n" * (len(blocks) - 1)
        return (
            f"Filename: x\nStatus: Used\nSerial: 16EB\nAlgorithm: EC256\nSHA1 FingerPrint: {digest}\nSubject: /CN=one\n"
            f"Issuer: /CN=ca\n{chain}OCSP Response Key: \n"
        )

    def server(self, words: list[str]) -> str:
        """Return the answer to a command about servers."""
        if words[:2] == ["set", "server"]:
            backend, name = words[2].split("/")
            if backend != "server_llm" or name not in self.servers:
                return "No such server.\n" if backend == "server_llm" else "No such backend.\n"
            self.servers[name][0] = 8 if words[-1] == "drain" else 0
            self.servers[name][4] = "DRAIN" if words[-1] == "drain" else "UP" if self.servers[name][1] else "DOWN"
            return ""
        if words[1] == "servers":
            if words[-1] != "server_llm":
                return "Can't find backend.\n"
            return STATE_HEADER + "".join(
                f"3 server_llm {number} {name} 127.0.0.1 {one[1]} {one[0]} 1 1 17 8 2 0 6 0 0 0 - 38001 - 0 0 - - 0\n"
                for number, (name, one) in enumerate(self.servers.items(), 1)
            )
        return STAT_HEADER + "".join(
            f"server_llm,{name},{one[3]},0,{one[2]},0,{one[4]},{one[5]},,\n" for name, one in self.servers.items()
        )


class Listener(socketserver.ThreadingUnixStreamServer):
    """Serves a `HAProxy` at a path."""

    daemon_threads = True

    def __init__(self, path: Path, haproxy: HAProxy) -> None:
        self.haproxy = haproxy
        super().__init__(str(path), Handler)
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()


class Handler(socketserver.BaseRequestHandler):
    """One command, one answer."""

    server: Listener

    def handle(self) -> None:
        """Read a command, and its payload up to the empty line."""
        text = ""
        while not text.endswith("\n\n" if "<<" in text.partition("\n")[0] else "\n") and len(text) <= BUFFER:
            text += self.request.recv(65536).decode()
        answer = self.server.haproxy.answer(text)
        if answer is not None:
            self.request.sendall(answer.encode())
        if text.startswith(("show proc", "@!")):
            while self.request.recv(1):
                pass
