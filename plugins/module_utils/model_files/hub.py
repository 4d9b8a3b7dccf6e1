"""A model on a hub, read by ranges of its files.

Proxies and certificate authorities come from the environment (HTTPS_PROXY, SSL_CERT_FILE), as urllib and ssl read them.
"""

from __future__ import annotations

import http.client
import json
import time
import urllib.error
import urllib.parse
import urllib.request

from .errors import Unreachable, Unread

TRIES = 2
PAUSE_SECONDS = 0.5
AGAIN = (429, 500, 502, 503, 504)
MOST_LISTING_BYTES = 64 << 20


class Redirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects, and takes the token only where it was meant to go: to the host that was asked first."""

    def redirect_request(self, req, fp, code, msg, headers, newurl):
        """Return the request that follows a redirect."""
        if not newurl.startswith(("https://", "http://")):
            raise urllib.error.HTTPError(newurl, code, "a redirect to what is no http(s) URL", headers, fp)
        following = super().redirect_request(req, fp, code, msg, headers, newurl)
        if following is not None and origin(newurl) != origin(req.full_url):
            following.headers.pop("Authorization", None)
        return following


def origin(url):
    """Return what must be the same for a token to be sent: scheme, host and port."""
    parts = urllib.parse.urlsplit(url)
    return parts.scheme, parts.hostname, parts.port or {"https": 443, "http": 80}.get(parts.scheme)


class Hub:
    """The files of one revision of a model."""

    kind = "hub"

    def __init__(self, endpoint, model, revision=None, token="", timeout=20):
        """``timeout`` counts the seconds that any one answer may take to begin or go on."""
        self.endpoint = endpoint.rstrip("/")
        self.model = urllib.parse.quote(model)
        self.revision = urllib.parse.quote(revision or "main", safe="")
        self.token = token
        self.timeout = timeout
        self.opener = urllib.request.build_opener(Redirects)
        if not self.endpoint.startswith(("https://", "http://")):
            raise Unreachable(f"{endpoint!r} is no http(s) URL of a hub")

    def files(self):
        """Return the size in bytes of each file by its name; those in folders do not matter here."""
        answer = self._get(f"/api/models/{self.model}/revision/{self.revision}?blobs=true", 0, MOST_LISTING_BYTES)
        try:
            listed = json.loads(answer.decode("utf-8"))["siblings"]
            return {
                entry["rfilename"]: int(entry.get("size") or 0) for entry in listed if "/" not in entry["rfilename"]
            }
        except (KeyError, TypeError, ValueError, UnicodeDecodeError):
            raise Unread(f"{self.endpoint} does not answer like a model hub") from None

    def part(self, name, start, length):
        """Return up to ``length`` bytes of a file from ``start`` on."""
        path = f"/{self.model}/resolve/{self.revision}/{urllib.parse.quote(name)}"
        return self._get(path, start, length, ranged=True)

    def _get(self, path, start, length, ranged=False):
        headers = {"User-Agent": "vllm-fleet"}
        if self.token:
            headers["Authorization"] = "Bearer " + self.token
        if ranged:
            headers["Range"] = f"bytes={start}-{start + length - 1}"
            headers["Accept-Encoding"] = "identity"
        request = urllib.request.Request(self.endpoint + path, headers=headers)  # noqa: S310 - http(s), see above
        for left in reversed(range(TRIES)):
            try:
                with self.opener.open(request, timeout=self.timeout) as answer:
                    if ranged and answer.status == 200 and start:
                        raise Unread(f"{self.endpoint} does not serve parts of files")
                    expected = min(length, answer.length or 0)
                    content = answer.read(length)
                    if len(content) < expected:
                        raise http.client.IncompleteRead(content)
                    return content
            except urllib.error.HTTPError as problem:
                problem.close()
                if problem.code == 416:  # the file ends before the range begins
                    return b""
                if problem.code not in AGAIN or not left:
                    raise self._refused(problem.code) from None
            except (OSError, http.client.HTTPException) as problem:
                if not left:
                    reason = getattr(problem, "reason", None) or problem or type(problem).__name__
                    raise Unreachable(f"{self.endpoint} cannot be reached: {reason}") from None
            time.sleep(PAUSE_SECONDS)
        raise AssertionError("the last try returns or raises")

    def _refused(self, status):
        if status in (401, 403):
            rights = "the token" if self.token else "a request without a token"
            reason = f"{self.endpoint} refuses {rights} for model {self.model} ({status})"
            return Unread(reason + ": gated, private or misspelt")
        if status == 404:
            return Unread(f"{self.endpoint} has no model {self.model} in revision {self.revision}")
        return Unreachable(f"{self.endpoint} answered {status}")
