"""What usually causes a bad status or no answer at all, and what to look at first."""

from __future__ import annotations

import ssl

import requests

from vllm_fleet.verify.endpoint import GATEWAY, Endpoint
from vllm_fleet.verify.outcome import excerpt

_NO_SERVER = (502, 503, 504)  # what a gateway says where the server behind it does not


def journal(endpoint: Endpoint) -> str:
    """Where its unit says more."""
    return f"`journalctl -u {endpoint.unit} -n 50` on {endpoint.host}"


def of_status(endpoint: Endpoint, status: int) -> str:
    """The usual cause of a status other than 200."""
    if status in _NO_SERVER and endpoint.gateway:
        return (
            f"no live server behind the gateway: `systemctl status {endpoint.unit}` on {endpoint.host}; "
            f"`journalctl -u vllm-gateway -n 50` on {endpoint.gateway}"
        )
    if status in _NO_SERVER and endpoint.kind == GATEWAY:
        return f"no live server behind the gateway: `systemctl status 'vllm-*'` on its hosts; {journal(endpoint)}"
    guarded = endpoint.gateway or endpoint.kind == GATEWAY
    match status:
        case 401 | 403 if guarded:
            return (
                "the key is not one of the gateway's, or may not use this server (gateway_keys): "
                "run playbooks/gateway.yml again"
            )
        case 401 | 403:
            return "the API key that the verification was given is not the one the server was started with"
        case 404 | 405 if guarded:
            return "the model is served under another name, or the gateway does not let this path through"
        case 404 | 405:
            return "the model is served under another name, or the server is of another kind and has no such path"
        case 400 | 422:
            return "the server's model or flags do not allow such a request; the answer says what it minds"
        case 429 if guarded:
            return (
                "the key's requests_per_minute or concurrent_requests (gateway_keys), or --max-num-queued-reqs: "
                "declare a key without a limit for the verification, or try again later"
            )
        case 503 | 429:
            return "the server is overloaded (--max-num-queued-reqs) or a proxy has no live server: try again later"
        case _ if status < 400:
            return "a proxy redirects instead of forwarding: base_url must name the server itself"
        case _:
            return f"the engine died or refuses to go on: {journal(endpoint)}"


def of_silence(endpoint: Endpoint, error: BaseException) -> str:
    """The usual cause of `error`, which came instead of an answer."""
    if isinstance(error, requests.ConnectTimeout):
        return f"the host is down or a firewall drops the packets: is {_door(endpoint)[1]} reachable from here?"
    if is_timeout(error):
        return f"the engine is frozen (/health stays green then) or overloaded: {journal(endpoint)}"
    if is_tls(error):
        if endpoint.ca_file:
            return (
                f"the certificate is of another authority than that of {endpoint.ca_file}, has expired, or names other "
                "hosts (gateway_address, gateway_names): run playbooks/gateway.yml again"
            )
        return (
            "the certificate is of a private authority: name its file in REQUESTS_CA_BUNDLE or ca_file; or it names "
            "other hosts than this one"
        )
    if is_refusal(error):
        unit, host = _door(endpoint)
        return f"the server is not running, or on loopback only: `systemctl status {unit}` on {host}"
    return f"the server ended meanwhile, or the name is not resolved: {journal(endpoint)}"


def _door(endpoint: Endpoint) -> tuple[str, str]:
    """Unit and host of what is connected to: the gateway where there is one on the way."""
    return ("vllm-gateway.service", endpoint.gateway) if endpoint.gateway else (endpoint.unit, endpoint.host)


def is_timeout(error: BaseException) -> bool:
    """Whether there was a connection, and then nothing came in time."""
    return isinstance(error, requests.Timeout | TimeoutError) or "timed out" in str(error).lower()


def is_tls(error: BaseException) -> bool:
    """Whether the connection could not be encrypted, or with somebody who is not trusted."""
    return isinstance(error, requests.exceptions.SSLError | ssl.SSLError)


def is_refusal(error: BaseException) -> bool:
    """Whether nothing listens there."""
    return "refused" in str(error).lower()


def root_cause(error: BaseException) -> str:
    """The innermost exception's words; requests and urllib3 wrap it several times."""
    while True:
        inner = error.__cause__ or error.__context__ or next((a for a in error.args if isinstance(a, Exception)), None)
        if inner is None:
            return excerpt(str(error) or type(error).__name__)
        error = inner
