"""A model on a hub is read by parts of its files; its token goes nowhere else."""

from __future__ import annotations

from typing import Any

import pytest

from tests.fake_hub import COMMIT, FakeHub, serve
from tests.load import load
from tests.unit.model_files.made import model

facts = load("plugins/modules/model_facts.py")

from ansible.module_utils.model_files import hub as hubs  # noqa: E402 - importable since the line above
from ansible.module_utils.model_files.describe import describe  # noqa: E402
from ansible.module_utils.model_files.errors import Unread  # noqa: E402


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hubs, "PAUSE_SECONDS", 0.0)
    monkeypatch.setenv("no_proxy", "*")


def described(hub: FakeHub, name: str = "org/model", **options: Any) -> Any:
    return describe(hubs.Hub(hub.url, name, timeout=5, **options))


def test_only_the_headers_of_the_weights_are_read() -> None:
    with serve(FakeHub(model())) as hub:
        found = described(hub)
    assert (found["source"], found["weights"][0]["count"]) == ("hub", 4)
    ranges = {path.rsplit("/", 1)[1]: [] for _method, path, _range in hub.log}
    for _method, path, asked in hub.log:
        ranges[path.rsplit("/", 1)[1]].append(asked)
    # The first shard's header comes with the first part; the second's is longer.
    assert ranges["model-00001-of-00002.safetensors"] == ["bytes=0-65535"]
    assert len(ranges["model-00002-of-00002.safetensors"]) == 2


def test_a_revision_is_asked_for_and_one_that_is_not_there_is_said() -> None:
    with serve(FakeHub(model())) as hub:
        assert described(hub, revision=COMMIT)["config"]
        with pytest.raises(Unread, match="has no model org/model in revision v9"):
            described(hub, revision="v9")


def test_the_token_opens_a_gated_model_and_is_sent_to_no_other_host() -> None:
    with serve(FakeHub(model())) as store, serve(FakeHub(model(), gated={"org/model"}, files_at=store.url)) as hub:
        with pytest.raises(Unread, match=r"refuses a request without a token for model org/model \(401\)"):
            described(hub)
        assert described(hub, token="good")["weights"]
    assert set(hub.tokens) == {None, "Bearer good"}
    assert store.tokens
    assert set(store.tokens) == {None}


def test_a_redirect_within_the_hub_keeps_the_token() -> None:
    redirects = hubs.Redirects()
    request = hubs.urllib.request.Request("https://hub/a/b", headers={"Authorization": "Bearer good"})
    for url, kept in {"https://hub/c": True, "http://hub/c": False, "https://hub:8443/c": False}.items():
        following = redirects.redirect_request(request, None, 307, "", {}, url)
        assert (following.get_header("Authorization") is not None) is kept, url


def test_a_redirect_leads_to_no_other_protocol() -> None:
    with serve(FakeHub(model(), files_at="ftp://elsewhere")) as hub, pytest.raises(Unread, match="answered 302"):
        described(hub)


def test_a_connection_that_is_cut_once_is_tried_again() -> None:
    with serve(FakeHub(model(), cut_after=10)) as hub:
        assert described(hub)["weights"][0]["count"] == 4


def test_a_hub_that_is_not_there_is_asked_once_for_all_models() -> None:
    asked: list[str] = []

    def hub(wanted: dict[str, Any]) -> Any:
        asked.append(wanted["model"])
        return hubs.Hub("http://127.0.0.1:9", wanted["model"])

    wanted = [{"model": name, "path": f"/nowhere/{name}", "revision": None} for name in ("a/b", "c/d")]
    found, unread = facts.read(wanted, hub)
    assert (found, asked) == ({}, ["a/b"])
    assert all("is not there; http://127.0.0.1:9 cannot be reached" in reason for reason in unread.values())


def test_what_is_not_on_the_host_comes_from_the_hub() -> None:
    wanted = [{"model": "org/model", "path": "/nowhere", "revision": None}]
    with serve(FakeHub(model())) as hub:
        found, unread = facts.read(wanted, lambda wanted: hubs.Hub(hub.url, wanted["model"]))
    assert (found["/nowhere"]["source"], unread) == ("hub", {})


@pytest.mark.parametrize("endpoint", ["file:///etc", "huggingface.co"])
def test_only_http_is_a_hub(endpoint: str) -> None:
    with pytest.raises(Unread, match=r"is no http\(s\) URL"):
        hubs.Hub(endpoint, "a/b")
