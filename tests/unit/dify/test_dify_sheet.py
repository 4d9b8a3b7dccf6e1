"""The sheet holds every field as the string to type, and says what would not work."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from tests import dify_example
from tests.dify_example import ROOT
from tests.unit.dify.dify_plan import BASE, LAB, SECRET, plan, served
from vllm_fleet.dify.fields import CHOICES, LABELS
from vllm_fleet.dify.sheet import as_markdown, make_sheet
from vllm_fleet.errors import FleetError
from vllm_fleet.gateway.result import Key

LLM_FIELDS = {
    *("endpoint_url", "endpoint_model_name", "mode", "context_size", "max_tokens_to_sample", "agent_thought_support"),
    *("function_calling_type", "stream_function_calling", "vision_support", "structured_output_support"),
    *("stream_mode_auth", "stream_mode_delimiter", "stream_include_usage", "compatibility_mode", "token_param_name"),
}
EMBEDDING_FIELDS = {"endpoint_url", "endpoint_model_name", "context_size", "max_chunks", "encoding_format"}
RERANK_FIELDS = {"endpoint_url", "endpoint_model_name", "context_size"}


def models(sheet: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {one["server"]: one for one in sheet["models"]}


def test_every_field_of_every_type_is_there_as_a_string() -> None:
    found = {name: one["credentials"] for name, one in models(make_sheet(plan())).items()}
    assert {name: set(fields) for name, fields in found.items()} == {
        "llm": LLM_FIELDS,
        "embedding": EMBEDDING_FIELDS,
        "rerank": RERANK_FIELDS,
    }
    assert all(isinstance(value, str) and value.strip() == value for one in found.values() for value in one.values())


def test_values_are_those_that_dify_needs() -> None:
    llm = models(make_sheet(plan()))["llm"]["credentials"]
    assert (llm["context_size"], llm["function_calling_type"], llm["stream_function_calling"]) == (
        "2048",
        "tool_call",
        "supported",
    )
    assert (llm["compatibility_mode"], llm["token_param_name"], llm["mode"]) == ("strict", "auto", "chat")
    assert llm["stream_mode_delimiter"] == r"\n\n"
    assert len(llm["stream_mode_delimiter"]) == 4


def test_the_upper_bound_of_an_answer_is_below_the_context() -> None:
    for length in (2, 512, 32768, 131072):
        one = models(make_sheet(plan(served("llm", "llm", length=length))))["llm"]["credentials"]
        assert 0 < int(one["max_tokens_to_sample"]) < int(one["context_size"]) == length


def test_a_server_without_tool_calls_is_not_entered_as_having_them() -> None:
    llm = models(make_sheet(plan(served("llm", "llm"))))["llm"]["credentials"]
    assert (llm["function_calling_type"], llm["stream_function_calling"]) == ("no_call", "not_supported")


def test_all_three_have_the_base_url_with_v1_and_rerank_has_the_guides_form_too() -> None:
    found = models(make_sheet(plan()))
    assert {one["credentials"]["endpoint_url"] for one in found.values()} == {f"{BASE}/v1"}
    assert [one["guide_form"] for one in found.values()] == [None, None, {"endpoint_url": BASE}]
    assert found["rerank"]["other_urls"] == [f"{BASE}/servers/rerank/v1", f"{BASE}/servers/rerank"]
    assert found["llm"]["other_urls"] == [f"{BASE}/servers/llm/v1"]


def test_where_a_kind_has_several_servers_each_is_entered_with_its_own_url() -> None:
    sheet = make_sheet(plan(*LAB, served("second", "rerank", "other-reranker")))
    found = models(sheet)
    assert found["second"]["credentials"]["endpoint_url"] == f"{BASE}/servers/second/v1"
    assert found["second"]["guide_form"] == {"endpoint_url": f"{BASE}/servers/second"}
    assert found["llm"]["credentials"]["endpoint_url"] == f"{BASE}/v1"
    assert [found["rerank"]["default"], found["second"]["default"]] == [True, False]
    assert any("2 servers are of type Rerank" in one for one in sheet["warnings"])


def test_a_length_that_is_not_known_is_left_out_and_how_to_find_it_is_said() -> None:
    sheet = make_sheet(plan(served("llm", "llm", length=None), *LAB[::2]))
    assert {"context_size", "max_tokens_to_sample"} & set(models(sheet)["llm"]["credentials"]) == set()
    text = as_markdown({**sheet, "ca_file": "/secrets/ca.pem"})
    assert f"--cacert /secrets/ca.pem {BASE}/servers/llm/v1/models" in text
    assert text.count("see below") == 2
    assert sheet["chunk_characters"] == 192  # of the other two, which are known


def test_chunks_are_short_enough_for_both_models() -> None:
    """Two tokens for a character; the reranker reads the question as well."""
    assert make_sheet(plan())["chunk_characters"] == 192
    far = (served("embedding", "embedding", length=8192), served("rerank", "rerank", length=16384))
    assert make_sheet(plan(*far))["chunk_characters"] == 4096
    assert make_sheet(plan(*far[:1], served("rerank", "rerank", length=None)))["chunk_characters"] is None
    assert make_sheet(plan(LAB[1]))["chunk_characters"] is None


@pytest.mark.parametrize(
    ("keys", "asked", "chosen"),
    [
        (("default", "dify"), "", "dify"),
        (("default", "other"), "", "default"),
        (("default", "dify"), "default", "default"),
    ],
)
def test_the_key_is_the_one_asked_for_else_difys_else_the_first(keys: tuple[str, ...], asked: str, chosen: str) -> None:
    sheet = make_sheet(plan(keys=tuple(Key(name, 0, 64, None) for name in keys)), asked)
    assert (sheet["key"]["name"], sheet["key"]["show"]) == (chosen, f"scripts/gateway-keys show {chosen}")


def test_an_unknown_key_is_refused_with_the_known_ones() -> None:
    with pytest.raises(FleetError, match="dify_key_name: the gateway on gpu-1 has no key 'x'; it has default"):
        make_sheet(plan(), "x")


def test_servers_that_the_key_may_not_use_are_named_and_not_entered() -> None:
    sheet = make_sheet(plan(keys=(Key("dify", 0, 64, ("rerank", "llm")),)))
    assert list(models(sheet)) == ["llm", "rerank"]
    assert "may not use them: embedding" in as_markdown(sheet)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"keys": (Key("k", 0, 39, None),)}, "concurrent_requests: 40"),
        ({"keys": (Key("k", 600, 64, None),)}, "requests_per_minute: 0"),
        ({"base_url": "https://127.0.0.1:8443"}, "gateway_address"),
        ({"base_url": "https://localhost:8443"}, "gateway_address"),
        ({"base_url": "https://[::1]:8443"}, "gateway_address"),
        ({"tls": "none"}, "plain HTTP"),
    ],
)
def test_what_will_not_work_is_said(changes: dict[str, Any], words: str) -> None:
    (warning,) = make_sheet(plan(**changes))["warnings"]
    assert words in warning


def test_what_works_is_not_warned_of() -> None:
    assert make_sheet(plan())["warnings"] == []


def test_no_secret_is_in_a_sheet_unless_asked_for_and_never_in_the_text() -> None:
    asked = make_sheet(plan(), secret=SECRET)
    assert {one["credentials"]["api_key"] for one in asked["models"]} == {SECRET}
    assert SECRET not in as_markdown(asked)
    assert "api_key" not in json.dumps(make_sheet(plan()))


def test_the_text_shows_every_value_with_its_name_on_the_screen_in_both_languages() -> None:
    sheet = make_sheet(plan())
    text = as_markdown(sheet)
    for entry in sheet["models"]:
        for name, value in entry["credentials"].items():
            english, chinese = LABELS[name]
            shown = CHOICES.get((name, value), (f"`{value}`", ""))[0]
            assert re.search(
                rf"\| {re.escape(f'{english} (`{name}`)')} \| {re.escape(chinese)} \| {re.escape(shown)}", text
            )


def test_the_certificate_is_explained_only_where_there_is_one() -> None:
    assert "REQUESTS_CA_BUNDLE" in as_markdown(make_sheet(plan(), ca_file="/ca.pem"))
    assert "nothing to do" in as_markdown(make_sheet(plan(tls="files")))
    plain = as_markdown(make_sheet(plan(tls="none", base_url="http://10.0.0.2:8443")))
    assert "certificate" not in plain.lower()


def test_the_text_has_no_holes() -> None:
    for one in (plan(), plan(tls="none"), plan(served("llm", "llm", length=None)), plan(keys=(Key("k", 5, 5, ()),))):
        text = as_markdown(make_sheet(one))
        assert "None" not in text
        assert "\n\n\n" not in text
        assert [line for line in text.splitlines() if line != line.rstrip() and not line.startswith("|")] == []


def test_the_example_is_what_the_code_makes_of_the_lab() -> None:
    assert dify_example.FILE.read_text() == dify_example.text(), "run: scripts/python -m tests.dify_example"


def test_the_guides_steps_and_the_examples_values_stand_on_the_page() -> None:
    page, example = (ROOT / "docs" / "dify.md").read_text(), dify_example.text()
    for words in ("`OpenAI-API-compatible`", "`LLM`", "`Text Embedding`", "`Rerank`", "`URL` 里不要有 `/v1`"):
        assert words in page
    for value in re.findall(r"^   \| (?:LLM|Text Embedding|Rerank) \|.*$", page, re.M):
        assert all(one in example for one in re.findall(r"`(tiny-\w+|https[^`]+|scripts[^`]+|\d+)`", value))


def test_the_inventory_is_named_in_the_command_that_shows_the_key() -> None:
    shown = make_sheet(plan(), inventory="inventory/our site")["key"]["show"]
    assert shown == "scripts/gateway-keys -i 'inventory/our site' show default"
