"""What the sheet for Dify says works as it stands there: through the gateway, with the classes of Dify's plugin."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.client_environments import client_python
from vllm_fleet.dify.sheet import make_sheet

pytestmark = [pytest.mark.integration, pytest.mark.serving]

PROGRAM = Path(__file__).resolve().parents[2] / "clients" / "dify_plugin_check.py"
DOCUMENTS = ["The capital of Brazil is Brasilia.", "The capital of France is Paris."]


def tried(gateway: Any, key: str) -> dict[str, dict[str, Any]]:
    """The results of dify_plugin's classes by check."""
    given = {"models": make_sheet(gateway.plan)["models"], "api_key": key, "ca_file": str(gateway.ca_file)}
    done = subprocess.run(
        [client_python("dify"), PROGRAM],
        input=json.dumps(given),
        capture_output=True,
        text=True,
        env={"PATH": os.environ["PATH"], "LANG": "C.UTF-8"},
        timeout=300,
        check=False,
    )
    assert done.stdout, done.stderr
    assert key not in done.stdout
    return {one["check"]: one for one in json.loads(done.stdout)["results"]}


def test_dify_accepts_the_sheets_models_chats_calls_tools_and_embeds(gateway: Any) -> None:
    results = tried(gateway, gateway.key)
    assert {name for name, one in results.items() if not one["ok"]} == set(), results
    assert {"chat_validates", "chat_streams", "streams_tool_call", "embedding_validates", "embeds"} <= set(results)


def test_dify_says_401_where_the_key_is_wrong(gateway: Any) -> None:
    results = tried(gateway, "sk-not-a-key-of-this-gateway")
    assert not any(one["ok"] for one in results.values())
    assert "401" in results["chat_validates"]["detail"]
    assert "401" in results["embedding_validates"]["detail"]


def test_a_reranker_works_at_each_url_of_the_sheet_as_the_plugin_asks(gateway: Any) -> None:
    """PyPI's class is another than the plugin's, which appends /rerank and reads index and relevance_score."""
    (entry,) = (one for one in make_sheet(gateway.plan)["models"] if one["model_type"] == "rerank")
    urls = [entry["credentials"]["endpoint_url"], entry["guide_form"]["endpoint_url"], *entry["other_urls"]]
    assert len(set(urls)) == 4
    for url in urls:
        answer = requests.post(
            f"{url}/rerank",
            json={
                "model": entry["model"],
                "query": "What is the capital of France?",
                "documents": DOCUMENTS,
                "top_n": 2,
            },
            headers={"Authorization": f"Bearer {gateway.key}"},
            verify=str(gateway.ca_file),
            timeout=60,
        )
        assert answer.status_code == 200, f"{url}: {answer.text}"
        scores = {one["index"]: one["relevance_score"] for one in answer.json()["results"]}
        assert 0 <= scores[0] < scores[1] <= 1, url
