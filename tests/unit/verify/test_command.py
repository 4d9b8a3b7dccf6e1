"""`scripts/verify` and `pytest tests/post_deploy`, run as a user runs them."""

from __future__ import annotations

import dataclasses
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests.broken_servers.stub import Answer, Json, serving
from tests.broken_servers.stub_gateway import KEY as GATEWAY_KEY
from tests.broken_servers.stub_gateway import serving_gateway
from vllm_fleet.verify.endpoint import Endpoint

ROOT = Path(__file__).resolve().parents[3]
KEY = "sk-not-to-be-seen"


def _berlin(path: str, request: Json, answer: Answer) -> Answer:
    """A language model that errs in one place, with characters in it that a terminal or XML could stumble on."""
    text = json.dumps(answer.body).replace("Paris", "Berlin [bold] <script> \\u0007")
    return dataclasses.replace(answer, body=json.loads(text)) if "choices" in text else answer


def handed_over(directory: Path, *endpoints: Endpoint) -> str:
    file = directory / "endpoints.json"
    file.write_text(json.dumps({"servers": [dataclasses.asdict(one) for one in endpoints]}))
    return str(file)


@pytest.fixture(scope="module")
def healthy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    directory = tmp_path_factory.mktemp("healthy")
    with serving("llm", demands=KEY) as llm, serving("embedding") as embedding, serving("rerank") as rerank:
        yield handed_over(directory, llm, embedding, rerank)


@pytest.fixture(scope="module")
def broken(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    directory = tmp_path_factory.mktemp("broken")
    with serving("llm", _berlin, demands=KEY) as llm, serving("rerank") as rerank:
        yield handed_over(directory, llm, rerank)


@pytest.fixture(scope="module")
def behind_a_gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A gateway, and one of the servers behind it as it is reached through it."""
    directory = tmp_path_factory.mktemp("gateway")
    with serving_gateway() as gateway:
        server = Endpoint(
            name="rerank",
            host="gpu-1",
            unit="vllm-rerank.service",
            kind="rerank",
            base_url=f"{gateway.base_url}/servers/rerank",
            model="tiny-rerank",
            dtype="float16",
            tensor_parallel_size=1,
            api_key=GATEWAY_KEY,
            ca_file=gateway.ca_file,
            gateway="stub-host",
        )
        yield handed_over(directory, gateway, server)


def verify(*arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    return run("-m", "vllm_fleet.verify", *arguments, stdin=stdin)


def post_deploy(*arguments: str) -> subprocess.CompletedProcess[str]:
    return run("-m", "pytest", "-p", "no:cacheprovider", *arguments)


def run(*arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *arguments]
    return subprocess.run(command, cwd=ROOT, input=stdin, capture_output=True, text=True, timeout=60, check=False)


def test_healthy_servers_give_a_table_and_status_0(healthy: str) -> None:
    done = verify("--endpoints", healthy)
    assert done.returncode == 0, done.stdout + done.stderr
    for words in ("vllm-llm.service", "tiny-embedding", "float16", "tensor 1", "answering", "3 servers proved by"):
        assert words in done.stdout
    assert "3 servers proved by" in done.stdout
    assert not any(line.endswith(" ") for line in done.stdout.splitlines())


def test_a_gateway_and_a_server_behind_it_are_reported_each_as_what_it_is(
    behind_a_gateway: str, tmp_path: Path
) -> None:
    report, junit, page = tmp_path / "report.json", tmp_path / "junit.xml", tmp_path / "report.html"
    done = verify(
        *("--endpoints", behind_a_gateway, "--output", str(report), "--junit", str(junit), "--html", str(page))
    )
    assert done.returncode == 0, done.stdout + done.stderr
    row = next(line for line in done.stdout.splitlines() if "gateway on stub-host" in line)
    assert re.search(r"vllm-gateway\.service +https://127\.0\.0\.1:\d+ +4 models +- +- +answering +12/12 checks", row)
    assert "1 server and 1 gateway proved by" in done.stdout
    gateway, server = json.loads(report.read_text())["servers"]
    assert gateway["models"] == ["tiny-llm", "tiny-coder", "tiny-embedding", "tiny-rerank"]
    assert "dtype" not in gateway
    assert server["model"] == "tiny-rerank"
    suites = ElementTree.parse(junit).getroot()
    assert [suite.get("name") for suite in suites] == ["gateway on stub-host", "rerank on gpu-1"]
    written = page.read_text(encoding="utf-8")
    assert "<td>4 models</td>\n<td>gateway</td>" in written
    assert GATEWAY_KEY not in done.stdout + report.read_text() + junit.read_text() + written


def test_the_suite_asks_through_a_gateway(behind_a_gateway: str) -> None:
    done = post_deploy("-v", "tests/post_deploy", "--endpoints", behind_a_gateway)
    assert done.returncode == 0, done.stdout
    assert "test_server[gateway-operations_hidden] PASSED" in done.stdout
    assert "test_server[rerank-key_required] PASSED" in done.stdout


def test_endpoints_are_read_from_standard_input(healthy: str) -> None:
    assert verify("--endpoints=-", stdin=Path(healthy).read_text()).returncode == 0


def test_vectors_and_scores_are_recorded_and_compared_with(healthy: str, tmp_path: Path) -> None:
    file = tmp_path / "golden.json"
    assert verify("--endpoints", healthy, "--record-golden", str(file)).returncode == 0
    done = verify("--endpoints", healthy, "--golden", str(file), "--json")
    checks = {one["id"]: one["status"] for server in json.loads(done.stdout)["servers"] for one in server["checks"]}
    assert (checks["vectors_equal_golden"], checks["scores_equal_golden"]) == ("passed", "passed")


def test_nothing_is_recorded_of_a_server_that_fails(broken: str, tmp_path: Path) -> None:
    assert verify("--endpoints", broken, "--record-golden", str(tmp_path / "golden.json")).returncode == 1
    assert not (tmp_path / "golden.json").exists()


def test_a_wrong_answer_is_explained_and_gives_status_1(broken: str) -> None:
    done = verify("--endpoints", broken)
    assert done.returncode == 1
    assert "FAILED: answers_capital_of_france" in done.stdout
    assert "expected  an answer with 'Paris' in it" in done.stdout
    assert "got       'It is Berlin [bold]" in done.stdout
    assert "usually   another model is behind the name" in done.stdout
    assert "Traceback" not in done.stdout + done.stderr


def test_reports_are_written_as_json_and_junit_without_the_key(broken: str, tmp_path: Path) -> None:
    report, junit, page = tmp_path / "new" / "report.json", tmp_path / "junit.xml", tmp_path / "report.html"
    files = ["--output", str(report), "--junit", str(junit), "--html", str(page)]
    done = verify("--endpoints", broken, "--json", *files)
    assert json.loads(done.stdout) == json.loads(report.read_text())
    llm = json.loads(report.read_text())["servers"][0]
    failed = [one for one in llm["checks"] if one["status"] == "failed"]
    assert {"expected", "got", "usually"} <= set(failed[0])
    suites = ElementTree.parse(junit).getroot()
    assert [suite.get("name") for suite in suites] == ["llm on stub-host", "rerank on stub-host"]
    assert suites[0].get("failures") == str(len(failed))
    assert len(suites.findall(".//failure")) == len(failed)
    assert llm["checks"][-1]["figures"]["tokens_per_second"] > 0
    assert KEY not in done.stdout + done.stderr + report.read_text() + junit.read_text() + page.read_text()


def test_the_page_tells_somebody_who_was_not_there(broken: str, tmp_path: Path) -> None:
    file = tmp_path / "report.html"
    verify("--endpoints", broken, "--html", str(file))
    page = file.read_text(encoding="utf-8")
    for words in (
        "checks failed on 2 servers",
        "llm on stub-host",
        "http://127.0.0.1:",
        "<dt>usually</dt><dd>another model is behind the name",
        "POST /v1/chat/completions</code>, HTTP 200",
        "法国的首都是哪里",
        "tokens_per_second",
        "&lt;script&gt;",
    ):
        assert words in page
    assert "<script" not in page
    assert not re.search(r"(src|href)=(?!\"#)", page), "the page needs another file"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--endpoints", "none.json"], "The endpoints cannot be read from none.json"),
        (["--endpoints", "-"], "standard input is not JSON"),
        (["--endpoints", "-", "--questions", "none.yml"], "The questions cannot be read from none.yml"),
        (["--endpoints", "-", "--golden", "none.json"], "The golden vectors cannot be read from none.json"),
        (["--endpoints", "-", "--timeout", "0"], "must be above 0"),
        (["--inventory", "no-such-inventory"], "no-such-inventory"),
    ],
)
def test_what_cannot_run_says_why_and_gives_status_2(arguments: list[str], sentence: str) -> None:
    done = verify(*arguments)
    assert done.returncode == 2
    assert sentence in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


def test_a_report_that_cannot_be_written_gives_status_2(healthy: str) -> None:
    done = verify("--endpoints", healthy, "--output", "/dev/null/report.json")
    assert done.returncode == 2
    assert "The report cannot be written to /dev/null/report.json" in done.stderr


def test_the_suite_passes_a_healthy_deployment_with_a_test_per_check(healthy: str) -> None:
    done = post_deploy("-v", "tests/post_deploy", "--endpoints", healthy)
    assert done.returncode == 0, done.stdout
    assert "test_server[llm-answers_capital_of_france] PASSED" in done.stdout
    assert "test_server[rerank-ranks_guide_capital_of_france] PASSED" in done.stdout
    assert "skipped" not in done.stdout


def test_the_suite_fails_with_expected_got_and_cause_and_no_traceback(broken: str) -> None:
    done = post_deploy("tests/post_deploy", "--endpoints", broken)
    assert done.returncode == 1
    assert "usually   another model is behind the name" in done.stdout
    assert "test_deployment.py:" not in done.stdout.split("short test summary")[0]


def test_a_single_check_of_the_suite_can_be_run(healthy: str) -> None:
    done = post_deploy("tests/post_deploy", "--endpoints", healthy, "-k", "rerank-rerank_top_n")
    assert done.returncode == 0
    assert "1 passed" in done.stdout


def test_the_suite_asked_for_by_name_does_not_pass_without_a_deployment() -> None:
    done = post_deploy("tests/post_deploy", "--inventory", "no-such-inventory")
    assert done.returncode not in (0, 5)
    assert "no-such-inventory" in done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
