"""What roles and the playbook hand over becomes findings, and findings become a table and JSON."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

import pytest

from tests.load import ROOT, load
from tests.unit.preflight.preflight_host import SERVER, healthy_host
from vllm_fleet.plan.problems import Problem
from vllm_fleet.preflight import handover
from vllm_fleet.preflight.report import as_text, from_json

ERROR = {"code": "gpu-mig", "severity": "error", "message": "GPU 0: MIG is on. Run: nvidia-smi -i 0 -mig 0"}
WARNING = {"code": "gpu-ecc", "severity": "warning", "message": "GPU 0: 1 uncorrected ECC errors. Reset it."}
SERVERS = [{"name": "llm", "port": 32804}, {"name": "rerank", "port": 32806}]


def test_what_a_role_found_too_is_said_once_in_the_roles_words() -> None:
    ours, of_role = {**ERROR, "code": "no-gpu", "message": "a"}, {**ERROR, "code": "no-gpu", "message": "b"}
    assert handover.merge([of_role], [ours, WARNING]) == [of_role, WARNING]
    assert handover.merge([], [ours, WARNING]) == [ours, WARNING]
    disk = {**ERROR, "code": "disk-too-small"}
    assert handover.merge([disk], [disk | {"message": "another"}]) == [disk, disk | {"message": "another"}]


def test_a_declarations_sentences_stay_whole() -> None:
    mistakes = [
        Problem("server llm", "model is missing"),
        Problem("variable x", "nothing reads it; did you mean y?"),
        Problem("server llm", "slow on GPUs 0 and 4; better: gpus: [0, 1]", "plan-placement", "warning"),
    ]
    found = handover.declaration_findings([asdict(one) for one in mistakes])
    assert [(one["code"], one["severity"], one["message"]) for one in found] == [
        ("declaration", "error", "server llm: model is missing. Correct the inventory."),
        ("declaration", "error", "variable x: nothing reads it; did you mean y? Correct the inventory."),
        ("plan-placement", "warning", "server llm: slow on GPUs 0 and 4; better: gpus: [0, 1]."),
    ]


def test_a_foreign_listener_is_named_once_per_server_with_pid_and_unit() -> None:
    nginx = {"port": 32806, "process": "nginx", "pid": 7, "unit": "nginx.service"}
    (found,) = handover.port_findings(SERVERS, [nginx, nginx | {"pid": 8}])
    assert found["code"] == "port-taken"
    assert found["message"].startswith("server rerank: port 32806 is taken by nginx (pid 7, unit nginx.service).")


def test_a_host_that_is_not_reached_has_that_as_its_finding() -> None:
    said = "Failed to connect to the host via ssh: ssh: connect to host h port 22: Connection refused"
    (found,) = handover.failure_findings({"unreachable": True, "msg": said}, "", read=False)
    assert found["code"] == "host-unreachable"
    assert "nothing listens on its SSH port" in found["message"]


def test_a_host_without_a_fitting_python_is_unreadable() -> None:
    result = {"failed": True, "msg": "The module interpreter '/usr/bin/python3' was not found."}
    (found,) = handover.failure_findings(result, "Read the host", read=False)
    assert found["code"] == "host-unreadable"
    assert "ansible_python_interpreter" in found["message"]


def test_a_wrong_setting_is_named_without_the_look_going_wrong() -> None:
    result = {"failed": True, "msg": "Validation failed", "argument_errors": ["value of a must be one of: b", "c"]}
    found = handover.failure_findings(result, "Validating arguments", read=True)
    assert {one["code"] for one in found} == {"settings"}
    assert found[0]["message"] == "value of a must be one of: b. Correct the inventory."


def test_what_nobody_foresaw_is_a_finding_too() -> None:
    (found,) = handover.failure_findings({"failed": True, "msg": "'x' is undefined"}, "Look", read=True)
    assert found["code"] == "look-failed"
    assert 'The task "Look" failed: ' in found["message"]
    assert "'x' is undefined" in found["message"]


def test_a_host_that_dropped_out_is_not_taken_for_a_good_one() -> None:
    found = handover.by_host(["a", "b"], {"a": {"preflight_findings": []}, "b": {}})
    assert found["a"] == []
    assert [one["code"] for one in found["b"]] == ["look-failed"]


def test_the_table_names_hosts_and_keeps_sentences_whole() -> None:
    text = handover.table({"gpu-01": [WARNING, ERROR], "a-long-name": []})
    head, first, second, _, end = text.splitlines()
    assert head.split() == ["host", "severity", "code", "finding"]
    assert first.startswith(" gpu-01  error     gpu-mig  GPU 0: MIG is on.")
    assert first.endswith(ERROR["message"])
    assert second.endswith(WARNING["message"])
    assert head.index("finding") == first.index("GPU 0") == second.index("GPU 0")
    assert end == "1 error on 1 of 2 hosts would stop the run, and 1 warning; nothing was changed."
    assert not any(line.endswith(" ") for line in text.splitlines())


def test_on_a_narrow_terminal_sentences_go_on_below_themselves() -> None:
    long = WARNING | {"message": "GPU 0: words " + "and words " * 20}
    text = as_text(from_json(handover.as_json({"gpu-01": [long]})), width=80)
    lines = text.splitlines()
    assert max(map(len, lines)) <= 80
    assert lines[2].index(lines[2].strip()) == lines[1].index("GPU 0")


@pytest.mark.parametrize(
    ("hosts", "sentence"),
    [
        ({"a": []}, "1 host: nothing was found that would stop the run"),
        ({"a": [WARNING], "b": []}, "1 warning on 2 hosts, nothing that would stop the run"),
        ({"a": [ERROR, ERROR], "b": [ERROR]}, "3 errors on 2 of 2 hosts would stop the run"),
    ],
)
def test_the_last_sentence_says_what_would_become_of_the_run(hosts: dict[str, Any], sentence: str) -> None:
    assert handover.summary(hosts).startswith(sentence)


def test_json_holds_every_host_and_finding_and_is_read_back() -> None:
    report = json.loads(json.dumps(handover.as_json({"a": [ERROR, WARNING], "b": []})))
    assert (report["errors"], report["warnings"]) == (1, 1)
    assert report["hosts"] == [{"name": "a", "findings": [ERROR, WARNING]}, {"name": "b", "findings": []}]
    assert handover.as_json({name: [one.as_dict() for one in found] for name, found in from_json(report).items()}) == (
        report
    )


def test_only_errors_refuse_and_each_line_names_the_host() -> None:
    assert handover.error_lines([WARNING, ERROR], "gpu-01") == f"gpu-01: {ERROR['message']}"
    assert handover.error_lines([WARNING], "gpu-01") == ""


def test_the_filters_take_what_the_playbook_has() -> None:
    filters = load("plugins/filter/preflight.py").FilterModule().filters()
    wanted = {"backend": "cuda", "min_driver": "580", "min_compute_capability": "7.5", "driver_managed": True,
              "reboot_allowed": False, "presigned_modules": False, "servers": [SERVER], "disk_needs": []}  # fmt: skip
    assert filters["preflight_findings"](healthy_host(), wanted) == []
    playbook = (ROOT / "playbooks/preflight.yml").read_text()
    assert all(f"{key}:" in playbook for key in wanted)
    assert filters["preflight_findings"](healthy_host({"gpus.0.mig": True}), wanted)[0]["code"] == "gpu-mig"
