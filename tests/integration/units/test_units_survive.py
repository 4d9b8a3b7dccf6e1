"""What a unit survives: each row of the table in docs/units.md, with real vLLM under a real systemd."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import requests

from tests.integration.units.model_unit import WATCHDOG_SECONDS, ModelUnit, embeds, generation, wait_until

pytestmark = [pytest.mark.integration, pytest.mark.serving]


# A killed engine is replaced below, without its cache.
@pytest.mark.parametrize("part", ["worker", "API server"])
def test_a_killed_part_is_replaced(embedding: ModelUnit, address: str, part: str) -> None:
    before = embedding.run_id
    embedding.signal(part, "KILL")
    seconds = embedding.wait_until_restarted(before)
    print(f"{part} killed: serving again after {seconds:.0f} s")
    assert embeds(address, embedding)
    assert "although nobody asked it to stop" in embedding.journal(before)


def freeze_until_replaced(unit: ModelUnit, part: str) -> None:
    """Freeze a part of a server; wait until the watchdog has ended the server, and it serves again."""
    before = unit.run_id
    unit.signal(part, "STOP")
    ended = wait_until(lambda: unit.run_id != before, WATCHDOG_SECONDS + 30, unit.journal)
    seconds = ended + unit.wait_until_serving()
    print(f"{part} of {unit.name} frozen: ended after {ended:.0f} s, serving again after {seconds:.0f} s")
    journal = unit.journal(before)
    assert "no sign of life for" in journal
    assert "is stopped" in journal.partition("ended by the watchdog")[2], "the frozen process is named"


def test_a_frozen_engine_is_replaced_within_the_watchdog_time(embedding: ModelUnit, address: str) -> None:
    """/health stays green."""
    freeze_until_replaced(embedding, "engine")
    assert embeds(address, embedding)


def test_a_frozen_api_server_and_a_frozen_worker_of_two_are_replaced_both(
    embedding: ModelUnit, llm: ModelUnit, address: str
) -> None:
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(freeze_until_replaced, (embedding, llm), ("API server", "worker")))
    assert embeds(address, embedding)
    assert len(llm.pids("worker")) == 2


def test_a_server_out_of_memory_is_replaced(embedding: ModelUnit, address: str) -> None:
    """The kernel kills a process of the cgroup; a helper that it spares fills the memory up."""
    before = embedding.run_id
    limit = int(embedding.get("MemoryCurrent")) + 100 * 2**20
    embedding.host.read("systemctl", "set-property", "--runtime", embedding.name, f"MemoryMax={limit}")
    fill = (
        "echo -1000 > /proc/self/oom_score_adj; "
        "for root in /sys/fs/cgroup/memory /sys/fs/cgroup; do group=$root/system.slice/$0/cgroup.procs; "
        '[ -e "$group" ] && break; done; echo $$ > "$group"; head -c 600M /dev/zero | tail -c 600M | sleep 5'
    )
    embedding.host.do("sh", "-c", fill, embedding.name)
    wait_until(lambda: embedding.run_id != before, 60, embedding.journal)
    embedding.host.read("systemctl", "set-property", "--runtime", embedding.name, "MemoryMax=infinity")
    embedding.wait_until_serving()
    assert embeds(address, embedding)
    told = embedding.host.read("journalctl", "--no-pager", "--output=cat", "--lines=300", f"--unit={embedding.name}")
    assert "for lack of memory" in told or "killed by the OOM killer" in told


def test_a_killed_engine_is_replaced_and_its_lost_cache_directory_made_again(
    embedding: ModelUnit, address: str
) -> None:
    cache = "/var/cache/vllm-fleet/embedding"
    embedding.host.read("rm", "-r", cache)
    before = embedding.run_id
    embedding.signal("engine", "KILL")
    seconds = embedding.wait_until_restarted(before)
    print(f"engine killed: serving again after {seconds:.0f} s")
    assert embeds(address, embedding)
    assert "although nobody asked it to stop" in embedding.journal(before)
    assert embedding.host.read("sh", "-c", f"stat -c '%a %U' {cache}/*") == "700 vllm"


def test_what_a_former_start_left_is_removed(embedding: ModelUnit, address: str) -> None:
    """systemd leaves processes in the cgroup where a drop-in tells it to, or where a driver keeps them."""
    with embedding.changed("", "", "KillMode=process", "SendSIGKILL=no"):
        before, engine = embedding.run_id, embedding.pids("engine")
        embedding.signal("wrapper", "KILL")
        embedding.wait_until_restarted(before)
        assert "left over from a former start, killed: VLLM::EngineCore" in embedding.journal(embedding.run_id)
        assert engine[0] not in embedding.pids("engine")
        assert len(embedding.pids("engine")) == 1
    assert embeds(address, embedding)


def test_a_busy_server_is_not_a_dead_one(llm: ModelUnit, address: str) -> None:
    """64 long generations for more than twice the watchdog time."""
    before, began = llm.run_id, time.monotonic()

    def generate(_: int) -> int:
        done = 0
        while time.monotonic() - began < 2.5 * WATCHDOG_SECONDS:
            answer = requests.post(f"http://{address}:{llm.port}/v1/completions", json=generation(1500), timeout=600)
            assert answer.json()["usage"]["completion_tokens"] == 1500
            done += 1
        return done

    with ThreadPoolExecutor(64) as pool:
        assert sum(pool.map(generate, range(64))) >= 64
    assert time.monotonic() - began > 2 * WATCHDOG_SECONDS
    assert llm.run_id == before, llm.journal(before)


def test_two_servers_never_start_at_once(embedding: ModelUnit, llm: ModelUnit) -> None:
    units = (embedding, llm)
    before = [unit.run_id for unit in units]
    embedding.host.read("systemctl", "restart", "--no-block", *(unit.name for unit in units))
    waited = False
    limit = time.monotonic() + 900
    while not all(unit.is_serving() and unit.run_id != old for unit, old in zip(units, before, strict=True)):
        assert time.monotonic() < limit, [unit.status for unit in units]
        assert len(loading := embedding.host.loading([unit.name for unit in units])) < 2, loading
        waited |= any("waiting until another server has started" in unit.status for unit in units)
        time.sleep(1)
    assert waited
