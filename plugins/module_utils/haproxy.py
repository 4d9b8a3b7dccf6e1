"""A client of HAProxy's admin socket (2.4 or later). Python 3.8, standard library only."""

from __future__ import annotations

import hashlib
import re
import socket
import ssl

PAYLOAD_BYTES = 8000  # a command with its payload must fit half of tune.bufsize, 16384 by default
CERTIFICATE = re.compile(r"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)
RELOAD = "Where the files say otherwise: systemctl reload vllm-gateway"
UNKNOWN = (
    "Unknown map identifier",
    "Can't replace a certificate which is not referenced",
    "Can't display the certificate: Not found",
    "Can't find backend",
    "No such",
)


class RuntimeProblem(Exception):  # noqa: N818 - what HAProxy says, not what went wrong here
    """A sentence for the operator: what HAProxy answered, or that it did not."""


class NotThere(RuntimeProblem):
    """No HAProxy runs there, or one with a configuration that lacks what was asked for."""


class Runtime:
    """A running HAProxy, by its admin socket; `timeout` in seconds bounds each answer."""

    def __init__(self, path, timeout=10):
        self.path = path
        self.timeout = timeout

    def ask(self, command, payload=None):
        """Return what HAProxy answers to a command, without the empty line at its end.

        Args:
            command: one line.
            payload: lines none of which is empty, for commands that take them.

        Raises:
            RuntimeProblem: no answer, or one that was broken off, as HAProxy does with a payload beyond its buffer.
        """
        text = f"{command}\n" if payload is None else f"{command} <<\n{payload.strip()}\n\n"
        answer = b""
        try:
            with socket.socket(socket.AF_UNIX) as connection:
                connection.settimeout(self.timeout)
                connection.connect(self.path)
                connection.sendall(text.encode())
                connection.shutdown(socket.SHUT_WR)  # without it a master process waits for the next command
                while True:
                    received = connection.recv(65536)
                    if not received:
                        break
                    answer += received
        except OSError as error:
            # It ends the connection where it has not read all of a payload, which is an error here, and no answer.
            if payload is None or not isinstance(error, (ConnectionResetError, BrokenPipeError)):
                kind = NotThere if isinstance(error, (FileNotFoundError, ConnectionRefusedError)) else RuntimeProblem
                raise kind(
                    f"HAProxy does not answer at {self.path}: {error.strerror or error}. "
                    "Look at: systemctl status vllm-gateway"
                ) from None
            answer = b""
        if not answer.endswith(b"\n"):
            raise RuntimeProblem(
                f"HAProxy broke off at {self.path} while it was told '{command}' with {len(text)} bytes. Where that is "
                "more than its buffer (tune.bufsize), it has to read the file instead: systemctl reload vllm-gateway"
            )
        return answer.decode(errors="replace").rstrip("\n")

    def tell(self, command, payload=None):
        """Give a command that is answered by nothing.

        Raises:
            RuntimeProblem: it was answered by something, which is a complaint.
        """
        answer = self.ask(command, payload)
        if answer:
            raise refused(self, command, answer)


def refused(runtime, command, answer):
    """Return the exception for an answer that is a complaint."""
    lines = answer.strip().splitlines() or ["nothing"]
    if lines[0].startswith(UNKNOWN):
        return NotThere(
            f"What '{command}' is about is not in the configuration that HAProxy runs with at {runtime.path} "
            f"({lines[0]}) {RELOAD}"
        )
    return RuntimeProblem(f"HAProxy at {runtime.path} answered '{command}' with: {' '.join(lines[:3])}")


def check_entries(path, entries):
    """Refuse what would not be the same in a map file, in a payload, and in what HAProxy shows of a map.

    Raises:
        RuntimeProblem: an entry is such.
    """
    for key, value in entries.items():
        if not key or key.startswith("#") or re.search(r"\s", key):
            raise RuntimeProblem(
                f"{path}: {key!r} cannot be a key of a map: it is empty, has a space or begins with #."
            )
        if not value or value != value.strip() or "\n" in value or "\r" in value:
            raise RuntimeProblem(f"{path}: the value of {key!r} is empty, has several lines, or a space at an end.")


def read_map(runtime, path, version=""):
    """Return what a map holds, as a list of pairs.

    Args:
        runtime: the running HAProxy.
        path: of the map's file, which names it.
        version: a version that is not committed yet, as ``@3``.
    """
    command = " ".join(["show", "map", *([version] if version else []), path])
    answer = runtime.ask(command)
    entries = []
    for line in answer.splitlines():
        pointer, _space, entry = line.partition(" ")
        if not pointer.startswith("0x"):
            raise refused(runtime, command, answer)
        key, _space, value = entry.partition(" ")
        entries.append((key, value))
    return entries


def same_map(entries, wanted):
    """Whether a map holds exactly what is wanted, each key once."""
    return len(entries) == len(wanted) and dict(entries) == wanted


def replace_map(runtime, path, wanted):
    """Replace what a map holds; requests see all of the former or all of the new.

    Raises:
        RuntimeProblem: HAProxy did not take it; the map is as it was.
    """
    command = f"prepare map {path}"
    answer = runtime.ask(command)
    prepared = re.match(r"New version created: (\d+)", answer)
    if not prepared:
        raise refused(runtime, command, answer)
    version = "@" + prepared.group(1)
    for payload in payloads(wanted):
        runtime.tell(f"add map {version} {path}", payload)
    if not same_map(read_map(runtime, path, version), wanted):
        raise RuntimeProblem(
            f"HAProxy at {runtime.path} did not take all of {path}: somebody else replaces it, too. Run this again."
        )
    runtime.tell(f"commit map {version} {path}")


def payloads(entries, size=PAYLOAD_BYTES):
    """Yield entries as payloads of at most `size` bytes; one that is longer goes alone."""
    lines, length = [], 0
    for key, value in entries.items():
        line = f"{key} {value}"
        line_bytes = len(line.encode()) + 1
        if lines and length + line_bytes > size:
            yield "\n".join(lines)
            lines, length = [], 0
        lines.append(line)
        length += line_bytes
    if lines:
        yield "\n".join(lines)


def fingerprint(pem):
    """Return the SHA-1 of the first certificate, as HAProxy shows it, and how many follow it.

    Raises:
        RuntimeProblem: there is no certificate.
    """
    found = CERTIFICATE.findall(pem)
    if not found:
        raise RuntimeProblem("There is no certificate in PEM form in what the gateway is to be given.")
    der = ssl.PEM_cert_to_DER_cert(found[0])
    return hashlib.sha1(der).hexdigest().upper(), len(found) - 1  # noqa: S324 - tells apart, guards nothing


def shown_certificate(runtime, path):
    """Return the same of the certificate that is served now."""
    command = f"show ssl cert {path}"
    answer = runtime.ask(command)
    shown = re.search(r"^SHA1 FingerPrint: ([0-9A-F]{40})$", answer, re.MULTILINE)
    if not shown:
        raise refused(runtime, command, answer)
    return shown.group(1), len(re.findall(r"^Chain Subject: ", answer, re.MULTILINE))


def replace_certificate(runtime, path, pem):
    """Serve another certificate to new connections; open ones stay.

    Raises:
        RuntimeProblem: HAProxy did not take it; the former is still served.
    """
    # With a transaction left open, HAProxy puts what is set for one file into the other.
    for left in re.findall(r"^\*(\S+)$", runtime.ask("show ssl cert"), re.MULTILINE):
        runtime.ask(f"abort ssl cert {left}")
    command = f"set ssl cert {path}"
    lines = "\n".join(line for line in pem.splitlines() if line.strip())
    answer = runtime.ask(command, lines)
    if f"Transaction created for certificate {path}!" not in answer:
        runtime.ask(f"abort ssl cert {path}")
        raise refused(runtime, command, answer)
    command = f"commit ssl cert {path}"
    answer = runtime.ask(command)
    if not answer.endswith("Success!"):
        runtime.ask(f"abort ssl cert {path}")
        raise refused(runtime, command, answer)
