"""Where runs are logged, which playbook is meant, and what of the command line may be shown."""

import stat
from pathlib import Path

import pytest

from vllm_fleet.errors import FleetError
from vllm_fleet.run.arguments import job_name, without_values
from vllm_fleet.run.cli import find_inventory
from vllm_fleet.run.events import TaskRun
from vllm_fleet.run.logs import new_run, read_events, read_history, write_history
from vllm_fleet.run.playbook import count_plays, find_playbook

TASKS = (TaskRun("t", "s", started=0, ended=12.5),)


def test_a_run_has_a_directory_only_its_owner_can_read(tmp_path: Path) -> None:
    run = new_run(tmp_path / "runs")
    assert stat.S_IMODE(run.stat().st_mode) == 0o700


def test_two_runs_in_one_second_do_not_share_a_directory(tmp_path: Path) -> None:
    assert new_run(tmp_path) != new_run(tmp_path)


def test_only_the_newest_runs_are_kept_and_nothing_else_is_touched(tmp_path: Path) -> None:
    (tmp_path / "notes").mkdir()
    old = [tmp_path / f"2020010{day}T000000Z" for day in range(1, 6)]
    for path in old:
        path.mkdir()
    run = new_run(tmp_path, kept=3)
    assert set(tmp_path.iterdir()) == {run, old[3], old[4], tmp_path / "notes"}


def test_an_unwritable_place_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(FleetError, match="cannot be written"):
        new_run(tmp_path / "file")


def test_events_are_read_in_order_and_broken_ones_left_out(tmp_path: Path) -> None:
    events = tmp_path / "job_events"
    events.mkdir()
    for name, text in {"10-a": '{"n": 10}', "9-b": '{"n": 9}', "8-c": "{", "x-partial": '{"n": 1}'}.items():
        (events / f"{name}.json").write_text(text)
    assert [event["n"] for event in read_events(tmp_path)] == [9, 10]


def test_history_is_that_of_the_last_good_run_of_the_same_job(tmp_path: Path) -> None:
    for day, job, status in [(1, "a", "successful"), (2, "a", "failed"), (3, "b", "successful")]:
        run = tmp_path / f"2020010{day}T000000Z"
        run.mkdir()
        write_history(run, job, status, TASKS * day)
    assert read_history("a", tmp_path).tasks == 1
    assert read_history("b", tmp_path).seconds == {("s", "t"): 12.5}
    assert read_history("c", tmp_path).tasks is None


def test_plays_are_counted_through_imports(tmp_path: Path) -> None:
    (tmp_path / "two.yml").write_text("- hosts: all\n  vars: {a: !vault x}\n- hosts: all\n")
    site = tmp_path / "site.yml"
    site.write_text("- ansible.builtin.import_playbook: two.yml\n- import_playbook: two.yml\n- hosts: all\n")
    assert count_plays(site) == 5


def test_a_number_of_plays_only_ansible_can_know_is_not_guessed(tmp_path: Path) -> None:
    site = tmp_path / "site.yml"
    site.write_text("- ansible.builtin.import_playbook: '{{ which }}.yml'\n")
    assert count_plays(site) is None


def test_a_playbook_is_found_in_the_checkout_from_anywhere(tmp_path: Path) -> None:
    assert find_playbook("site.yml", tmp_path).name == "site.yml"


def test_a_missing_playbook_or_inventory_is_named(tmp_path: Path) -> None:
    with pytest.raises(FleetError, match=r"'nowhere\.yml'"):
        find_playbook("nowhere.yml", tmp_path)
    with pytest.raises(FleetError, match="'nowhere'"):
        find_inventory("nowhere", tmp_path)


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        (["-e", "token=abc"], ["-e", "token=..."]),
        (["--extra-vars", '{"token": "abc"}'], ["--extra-vars", "..."]),
        (["--extra-vars=token=abc"], ["--extra-vars=token=..."]),
        (["-etoken=abc"], ["-etoken=..."]),
        (["-e", "a=1 token=abc"], ["-e", "..."]),
        (["-e", "@vars.yml", "--limit", "gpu=1"], ["-e", "@vars.yml", "--limit", "gpu=1"]),
    ],
)
def test_values_of_variables_are_not_repeated(given: list[str], shown: list[str]) -> None:
    assert without_values(given) == shown


def test_a_jobs_name_holds_no_value() -> None:
    assert "abc" not in job_name(Path("/site.yml"), ["-e", "token=abc"])
