"""Models are entered in Dify once, as the sheet says, and nothing that is right is touched."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.fake_dify import ADMIN_KEY, EMAIL, PASSWORD, PROVIDER, WORKSPACE, FakeDify, serve
from tests.unit.dify.dify_plan import BASE, LAB, SECRET, plan, served
from vllm_fleet.dify.console import HIDDEN, Console, Login, require_supported
from vllm_fleet.dify.register import register, same_secret
from vllm_fleet.dify.sheet import make_sheet
from vllm_fleet.errors import FleetError
from vllm_fleet.gateway.result import Key

SHEET = make_sheet(plan())
ALL = ["create llm tiny-qwen2", "create text-embedding tiny-embedding", "create rerank tiny-reranker"]


@pytest.fixture
def dify() -> Iterator[FakeDify]:
    with serve(FakeDify()) as one:
        yield one


def enter(
    dify: FakeDify, sheet: dict[str, Any] = SHEET, key: str = SECRET, password: str = PASSWORD, **options: bool
) -> list[str]:
    console = Console(Login(dify.url, EMAIL, password), [key])
    console.log_in()
    return register(console, sheet, key, **options)


def test_models_are_created_with_every_field_of_the_sheet_and_the_key(dify: FakeDify) -> None:
    assert enter(dify) == ALL
    for entry in SHEET["models"]:
        assert dify.stored(entry["model_type"]) == entry["credentials"] | {"api_key": SECRET}


def test_all_models_are_tried_before_the_first_is_created(dify: FakeDify) -> None:
    enter(dify)
    steps = [path.rpartition("/")[2] for method, path in dify.log if method == "POST"]
    assert steps == ["login", "validate", "validate", "validate", "credentials", "credentials", "credentials"]


def test_a_second_run_changes_nothing(dify: FakeDify) -> None:
    enter(dify, defaults=True)
    dify.log.clear()
    assert enter(dify, defaults=True) == []
    assert dify.changes == []
    assert [path for _, path in dify.log if path.endswith("validate")] == []


def test_what_differs_is_updated_and_nothing_else(dify: FakeDify) -> None:
    enter(dify)
    dify.log.clear()
    longer = make_sheet(plan(*LAB[:1], served("llm", "llm", "tiny-qwen2", 4096, tools=True), LAB[2]))
    assert enter(dify, longer) == ["update llm tiny-qwen2: context_size, max_tokens_to_sample"]
    assert dify.changes == ["PUT credentials"]
    assert dify.stored("llm")["context_size"] == "4096"


def test_an_update_keeps_the_secret_without_sending_it_and_what_somebody_added(dify: FakeDify) -> None:
    enter(dify)
    dify.stored("rerank").update(display_name="our reranker", context_size="4096")
    dify.bodies.clear()
    assert enter(dify) == ["update rerank tiny-reranker: context_size"]
    assert dify.bodies[-1]["credentials"]["api_key"] == HIDDEN
    assert dify.stored("rerank") == {
        **SHEET["models"][2]["credentials"],
        "display_name": "our reranker",
        "api_key": SECRET,
    }


def test_a_rotated_key_is_sent(dify: FakeDify) -> None:
    enter(dify)
    other = "vf-ponmlkjihgfedcba9876543210"
    assert enter(dify, key=other) == [
        f"update {entry['model_type']} {entry['model']}: api_key" for entry in SHEET["models"]
    ]
    assert dify.stored("llm")["api_key"] == other
    assert enter(dify, key=other) == []


def test_a_model_that_was_entered_by_hand_is_updated_under_its_name(dify: FakeDify) -> None:
    by_hand = {"endpoint_url": "http://old:32806", "context_size": "4096", "api_key": "EMPTY-but-long"}
    entry = {"model_type": "rerank", "model": "tiny-reranker", "name": "API KEY 1", "credentials": by_hand}
    dify.credentials["1"], dify.in_use["rerank", "tiny-reranker"] = entry, "1"
    assert enter(dify)[2] == "update rerank tiny-reranker: endpoint_url, context_size, api_key"
    assert dify.credentials["1"]["name"] == "API KEY 1"
    assert dify.stored("rerank") == SHEET["models"][2]["credentials"] | {"api_key": SECRET}
    assert enter(dify) == []


def test_fields_that_the_installed_plugin_does_not_have_are_no_difference(dify: FakeDify) -> None:
    dify.unknown = {"stream_include_usage", "token_param_name"}
    enter(dify)
    assert "stream_include_usage" not in dify.stored("llm")
    assert enter(dify) == []


def test_check_mode_says_what_would_be_done_and_does_nothing(dify: FakeDify) -> None:
    promised = enter(dify, defaults=True, check=True)
    assert promised == [*ALL, *(f"make {one['model']} the default {one['model_type']}" for one in SHEET["models"])]
    assert dify.changes == []
    assert dify.credentials == {}
    assert enter(dify, defaults=True) == promised
    assert enter(dify, defaults=True, check=True) == []


def test_defaults_are_set_only_when_asked_and_only_where_others_are(dify: FakeDify) -> None:
    enter(dify)
    assert dify.defaults == {}
    enter(dify, defaults=True)
    assert {kind: (one["provider"]["provider"], one["model"]) for kind, one in dify.defaults.items()} == {
        entry["model_type"]: (PROVIDER, entry["model"]) for entry in SHEET["models"]
    }
    dify.defaults["llm"]["model"] = "other"
    assert enter(dify, defaults=True) == ["make tiny-qwen2 the default llm"]
    assert dify.bodies[-1]["model_settings"] == [{"model_type": "llm", "provider": PROVIDER, "model": "tiny-qwen2"}]


def test_a_model_that_is_refused_keeps_all_others_unchanged_and_the_cause_is_said(dify: FakeDify) -> None:
    unreachable = "HTTPSConnectionPool(host='10.0.0.2', port=8443): Max retries exceeded: Connection refused"
    dify.refuses[f"{BASE}/v1"] = f"{unreachable} with {SECRET}"
    with pytest.raises(
        FleetError, match=r"does not accept llm tiny-qwen2: .*reachable from the plugin daemon's"
    ) as said:
        enter(dify)
    assert dify.credentials == {}
    assert SECRET not in str(said.value)


@pytest.mark.parametrize(
    ("daemon_says", "words"),
    [
        ("SSLError(SSLCertVerificationError: CERTIFICATE_VERIFY_FAILED) Max retries exceeded", "gateway's authority"),
        ("Credentials validation failed with status code 401", "does not know this key"),
        ("404 Client Error: Not Found for url", "this URL or this model"),
        ("503 Server Error", "scripts/verify"),
        ("something new", "docs/dify.md"),
    ],
)
def test_what_the_plugin_daemon_says_is_explained(dify: FakeDify, daemon_says: str, words: str) -> None:
    dify.refuses[f"{BASE}/v1"] = daemon_says
    with pytest.raises(FleetError, match=words):
        enter(dify)


@pytest.mark.parametrize("hides", [False, True])
def test_a_credential_that_is_there_but_not_in_use_is_said(dify: FakeDify, hides: bool) -> None:
    """Where Dify tells of it before anything is changed; else its 400 "already exists" is."""
    enter(dify)
    dify.in_use.clear()
    dify.hides_others = hides
    with pytest.raises(FleetError, match=r"not in use: choose it|not in use\. Choose it") as said:
        enter(dify)
    assert ("already exists" in str(said.value)) == hides


def test_the_plugin_that_is_missing_is_said(dify: FakeDify) -> None:
    dify.plugin = False
    with pytest.raises(FleetError, match="Install the plugin OpenAI-API-compatible"):
        enter(dify)


def test_without_a_context_length_nothing_is_entered(dify: FakeDify) -> None:
    sheet = make_sheet(plan(served("llm", "llm", length=None)))
    with pytest.raises(FleetError, match="declare max_model_len"):
        enter(dify, sheet)


def test_two_servers_of_one_name_are_refused(dify: FakeDify) -> None:
    sheet = make_sheet(plan(served("one", "llm"), served("two", "llm")))
    with pytest.raises(FleetError, match="2 servers of type llm serve the name tiny-llm"):
        enter(dify, sheet)


def test_an_admin_key_and_a_workspace_need_no_login(dify: FakeDify) -> None:
    console = Console(Login(dify.url, admin_key=ADMIN_KEY, workspace=WORKSPACE))
    console.log_in()
    assert register(console, SHEET, SECRET) == ALL
    assert "/console/api/login" not in {path for _, path in dify.log}


@pytest.mark.parametrize(
    ("state", "password", "words"),
    [
        ({}, "wrong-password", "Invalid email or password"),
        ({"breaks_csrf": True}, PASSWORD, "X-CSRF-Token"),
        ({"expires": True}, PASSWORD, "run again"),
    ],
)
def test_a_session_that_is_refused_is_said_without_a_secret(state: dict[str, Any], password: str, words: str) -> None:
    with serve(FakeDify(**state)) as dify, pytest.raises(FleetError, match=words) as said:
        enter(dify, password=password)
    assert password not in str(said.value)


def test_a_dify_that_is_not_there_is_said() -> None:
    with serve(FakeDify()) as dify:
        pass
    with pytest.raises(FleetError, match=r"does not answer .*dify_console_url"):
        Console(Login(dify.url, EMAIL, PASSWORD)).log_in()


@pytest.mark.parametrize("health", [True, False])
def test_the_version_is_known_with_and_without_the_health_page(health: bool) -> None:
    with serve(FakeDify(health=health)) as dify:
        assert Console(Login(dify.url, EMAIL, PASSWORD)).version() == "1.14.2"


def test_a_version_that_is_not_told_is_unknown() -> None:
    with serve(FakeDify(version=None)) as dify:
        assert Console(Login(dify.url, EMAIL, PASSWORD)).version() is None


@pytest.mark.parametrize("version", ["1.11.2", "1.14.2", "1.16.0-rc1", "2.0.0"])
def test_known_versions_are_supported(version: str) -> None:
    require_supported(version, "http://dify", force=False)


@pytest.mark.parametrize("version", [None, "1.11.1", "1.8.0", "0.15.3", "main"])
def test_older_and_unknown_versions_are_refused_unless_forced(version: str | None) -> None:
    with pytest.raises(FleetError, match="Nothing was changed: enter them by hand"):
        require_supported(version, "http://dify", force=False)
    require_supported(version, "http://dify", force=True)


@pytest.mark.parametrize(
    ("masked", "same"),
    [("vf-012************op", True), ("vf-012************xx", False), ("*" * 20, True), ("", False), (SECRET, True)],
)
def test_a_masked_secret_is_compared_as_far_as_it_shows(masked: str, same: bool) -> None:
    assert same_secret(masked, SECRET) is same


def test_a_key_for_some_servers_enters_only_those(dify: FakeDify) -> None:
    assert enter(dify, make_sheet(plan(keys=(Key("dify", 0, 64, ("rerank",)),)))) == [ALL[2]]


@pytest.mark.parametrize(
    ("login", "words"),
    [
        (Login("dify.example.org", EMAIL, PASSWORD), "must look like"),
        (Login("https://user:secret@dify", EMAIL, PASSWORD), "must look like"),
        (Login("https://dify", EMAIL), "dify_console_password"),
        (Login("https://dify", admin_key=ADMIN_KEY), "dify_console_workspace"),
    ],
)
def test_an_unusable_login_is_refused_by_the_name_of_its_variable(login: Login, words: str) -> None:
    with pytest.raises(FleetError, match=words) as said:
        Console(login)
    assert "secret" not in str(said.value)
    assert PASSWORD not in repr(login)
