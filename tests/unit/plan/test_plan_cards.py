"""The table of cards, and hosts made of it that nobody has yet."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests import hosts
from tests.hosts.replay import facts
from vllm_fleet.plan.card_table import capability, card_called, cards
from vllm_fleet.plan.cards import hypothetical

from ansible.module_utils.gpu_host import pci_ids  # isort: skip - found once tests.hosts.replay is loaded

CARDS = {card.name: card for card in cards()}


@pytest.mark.parametrize("name", CARDS)
def test_a_card_can_do_what_the_table_of_pci_ids_says(name: str) -> None:
    ids = [device for device, product in pci_ids.NAMES.items() if product == name]
    assert ids
    assert {capability(pci_ids.describe(device)[2]) for device in ids} == {CARDS[name].compute_capability}


def test_a_card_has_the_memory_that_nvidia_smi_tells() -> None:
    seen = {}
    for host in hosts.names():
        for gpu in facts(host)["gpus"] or []:
            seen[gpu["name"]] = gpu["memory_total_mib"] << 20
            assert CARDS[gpu["name"]].memory_bytes == seen[gpu["name"]]
    assert len(seen) >= 6


def test_no_two_cards_are_called_the_same() -> None:
    for card in cards():
        for name in (card.name, *card.called):
            assert card_called(name) == card


@pytest.mark.parametrize(
    ("spec", "names"),
    [
        ("4xL40S", ["NVIDIA L40S"] * 4),
        ("4 X l40s", ["NVIDIA L40S"] * 4),
        ("L40S", ["NVIDIA L40S"]),
        ("8×H100-80GB", ["NVIDIA H100 80GB HBM3"] * 8),
        ("2xNVIDIA RTX 4090 + A100-80GB", ["NVIDIA GeForce RTX 4090"] * 2 + ["NVIDIA A100-SXM4-80GB"]),
        ("2*rtx-pro-6000-server", ["NVIDIA RTX PRO 6000 Blackwell Server Edition"] * 2),
    ],
)
def test_a_host_is_made_of_a_few_words(spec: str, names: list[str]) -> None:
    host = hypothetical(spec, "gpu-01", "192.0.2.1")
    assert host.gpus is not None
    assert [gpu.name for gpu in host.gpus] == names
    assert [gpu.index for gpu in host.gpus] == list(range(len(names)))
    assert (host.name, host.address, host.assumed) == ("gpu-01", "192.0.2.1", True)
    assert sum(gpu.memory_bytes for gpu in host.gpus) < host.memory_bytes


@pytest.mark.parametrize(("spec", "link"), [("2xH100", "NV18"), ("2xL40S", "PHB"), ("H100 + H200", "PHB")])
def test_boards_have_their_nvlink(spec: str, link: str) -> None:
    assert hypothetical(spec).links == {(0, 1): link}


@pytest.mark.parametrize(
    ("spec", "reason"),
    [
        ("4xL40Z", "no GPU is known by the name 'L40Z'; did you mean L40?"),
        ("2xA100", "say which: A100-PCIe-40GB, A100-40GB, A100-PCIe-80GB, A100-80GB"),
        ("1xabacus", "known are T4, "),
        ("0xL4", "at least one GPU"),
        ("8xL4 + 9xL4", "names 17 GPUs; a host has at most 16"),
        ("", "expected GPUs such as 4xL40S"),
        ("L4 + ", "expected GPUs such as 4xL40S"),
    ],
)
def test_what_is_no_host_is_said_in_a_sentence(spec: str, reason: str) -> None:
    with pytest.raises(ValueError, match="GPU") as error:
        hypothetical(spec)
    assert reason in str(error.value)


@given(st.text(max_size=20))
def test_any_text_is_a_host_or_a_sentence(spec: str) -> None:
    try:
        assert hypothetical(spec).gpus
    except ValueError as error:
        assert len(str(error)) > 20  # noqa: PT017 - either is right
