"""Ports that somebody else holds are found before a server dies on them minutes later."""

from vllm_fleet.plan.ports import taken_ports

SERVERS = [{"name": "llm", "port": 32804}, {"name": "rerank", "port": 32806}]


def test_a_foreign_listener_on_a_declared_port_is_named_with_the_server() -> None:
    nginx = {"port": 32806, "process": "nginx", "pid": 7, "unit": "nginx.service"}
    assert taken_ports(SERVERS, [nginx]) == [{"server": SERVERS[1], "listener": nginx}]


def test_a_listener_without_a_unit_counts_as_well() -> None:
    by_hand = {"port": 32804, "process": "python3", "pid": 8, "unit": None}
    assert taken_ports(SERVERS, [by_hand]) == [{"server": SERVERS[0], "listener": by_hand}]


def test_other_ports_and_servers_of_this_project_are_no_conflict() -> None:
    listeners = [{"port": 80, "unit": "nginx.service"}, {"port": 32804, "unit": "vllm-chat.service"}]
    assert taken_ports(SERVERS, listeners) == []


def test_the_gateway_on_a_declared_port_is_a_conflict() -> None:
    gateway = {"port": 32804, "process": "haproxy", "pid": 9, "unit": "vllm-gateway.service"}
    assert taken_ports(SERVERS, [gateway]) == [{"server": SERVERS[0], "listener": gateway}]
