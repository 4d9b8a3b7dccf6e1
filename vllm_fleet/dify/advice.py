"""What to do about what Dify says."""

from __future__ import annotations

from http import HTTPStatus

from vllm_fleet.dify.models import PROVIDER_LABEL


def advice(status: int, text: str) -> str:
    """What to do about a refusal of the console, as a sentence to append; empty where nothing is known."""
    words = text.lower()
    if "csrf" in words:
        return (
            " The session's CSRF token was refused: does something before Dify drop cookies or the header X-CSRF-Token?"
        )
    if status == HTTPStatus.UNAUTHORIZED:
        return " Are the account and its password, or the admin key, right? A session may also have ended: run again."
    if status == HTTPStatus.FORBIDDEN:
        return " The account must be an owner or an administrator of the workspace."
    if "already exists" in words:
        return " It is there but not in use: choose it in Dify under Add Model, or delete it, and run again."
    if "provider" in words and ("not exist" in words or "not found" in words):
        return f" Install the plugin {PROVIDER_LABEL} in Dify first."
    return ""


def cause(text: str) -> str:
    """What usually lies behind a model that Dify does not accept, from the words of its plugin daemon."""
    words = text.lower()
    if "certificate" in words or "ssl" in words:
        return "The plugin daemon's container does not know the gateway's authority: see the sheet, The certificate."
    if any(one in words for one in ("refused", "timed out", "max retries", "unreachable", "resolve", "not known")):
        return (
            "The gateway must be reachable from the plugin daemon's container: see the sheet, Prove it where it counts."
        )
    if "401" in words or "unauthorized" in words:
        return "The gateway does not know this key: run playbooks/gateway.yml."
    if "404" in words:
        return "The gateway does not know this URL or this model: run playbooks/gateway.yml, then this again."
    if "429" in words or "503" in words:
        return "The gateway is busy, or no server behind it is live: scripts/verify tells."
    return "docs/dify.md lists what usually lies behind it."
