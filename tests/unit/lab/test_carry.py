"""What lab hosts take over from the machine: package sources, certificates, names."""

from __future__ import annotations

from pathlib import Path

import pytest

from vllm_fleet.errors import FleetError
from vllm_fleet.lab import carry, carry_apt, carry_pip


def test_a_mirror_of_debian_is_carried_and_other_repositories_are_not() -> None:
    targets = (
        "Debian https://mirror.example/debian/ bookworm main\n"
        "Debian https://mirror.example/debian/ bookworm-updates main\n"
        "Debian https://mirror.example/debian/ bookworm-backports main\n"
        "Docker https://download.docker.com/linux/debian/ bookworm stable\n"
        ". https://packages.example/ stable main\n"
    )
    assert carry_apt.parse_targets(targets) == [
        "deb https://mirror.example/debian bookworm main",
        "deb https://mirror.example/debian bookworm-updates main",
    ]


def test_a_newer_machine_lends_its_archives_for_the_suite_of_the_hosts() -> None:
    targets = "Debian http://a.example/debian/ trixie main\nDebian http://b.example/s/ trixie-security main\n"
    assert carry_apt.parse_targets(targets) == [
        "deb http://a.example/debian bookworm main",
        "deb http://b.example/s bookworm-security main",
    ]


def test_only_options_that_decide_how_packages_are_fetched_are_carried() -> None:
    dump = (
        'APT::Install-Recommends "true";\n'
        'Acquire::http::Proxy "http://proxy.example:3142";\n'
        'Acquire::https::CaInfo "/etc/ssl/mirror.pem";\n'
        'Acquire::Check-Valid-Until "false";\n'
        'Acquire::IndexTargets::deb::Packages::Optional "0";\n'
        'DPkg::Post-Invoke:: "appstreamcli refresh";\n'
    )
    options = carry_apt.parse_options(dump)
    assert [option.split()[0] for option in options] == [
        "Acquire::http::Proxy",
        "Acquire::https::CaInfo",
        "Acquire::Check-Valid-Until",
    ]


def test_pip_files_are_read_in_pips_own_order() -> None:
    environment = {"XDG_CONFIG_DIRS": "/etc/xdg:/opt/xdg", "PIP_CONFIG_FILE": "/srv/pip.conf"}
    assert carry_pip.config_files(environment, Path("/home/u")) == [
        Path("/etc/xdg/pip/pip.conf"),
        Path("/opt/xdg/pip/pip.conf"),
        Path("/etc/pip.conf"),
        Path("/home/u/.pip/pip.conf"),
        Path("/home/u/.config/pip/pip.conf"),
        Path("/srv/pip.conf"),
    ]
    assert carry_pip.config_files({"PIP_CONFIG_FILE": "/dev/null"}, Path("/home/u")) == []


def test_the_users_file_beats_the_systems_and_the_environment_beats_both(tmp_path: Path) -> None:
    system, user = tmp_path / "system", tmp_path / "user"
    system.write_text("[global]\nindex-url = https://system.example/simple\ntimeout = 5\n")
    user.write_text(
        "[global]\nindex-url = https://user.example/simple\nextra-index-url =\n    https://a.example\n    https://b%20.example\n"
    )
    merged = carry_pip.read([system, user, tmp_path / "absent"], {"PIP_TIMEOUT": "60", "PIP_CACHE_DIR": "/elsewhere"})
    assert merged["global"]["index-url"] == "https://user.example/simple"
    assert merged["global"]["timeout"] == "60"
    assert "cache-dir" not in merged["global"]
    (tmp_path / "again").write_text(carry_pip.text(merged))
    assert carry_pip.read([tmp_path / "again"], {}) == merged


def test_a_broken_pip_file_counts_as_absent(tmp_path: Path) -> None:
    (tmp_path / "pip.conf").write_text("index-url = before any section\n")
    assert carry_pip.read([tmp_path / "pip.conf"], {}) == {}


def test_directories_of_local_indexes_are_shown_to_hosts_with_the_files_their_pages_link_to(tmp_path: Path) -> None:
    index, files, wheels = tmp_path / "pypi/simple", tmp_path / "pypi/files", tmp_path / "wheels"
    for directory in (index / "pkg", files, wheels):
        directory.mkdir(parents=True)
    (files / "pkg-1-py3-none-any.whl").touch()
    (index / "pkg/index.html").write_text('<a href="../../files/pkg-1-py3-none-any.whl#sha256=00">pkg</a>')
    config = {"global": {"extra-index-url": f"https://a.example file://{index}", "find-links": f"{wheels} /not/there"}}
    assert carry_pip.directories(config) == [files, index, wheels]


def test_files_named_by_pip_options_are_carried(tmp_path: Path) -> None:
    constraints = tmp_path / "constraints.txt"
    constraints.touch()
    assert carry_pip.files({"global": {"constraint": str(constraints), "cert": "/not/there"}}) == [constraints]


def test_hosts_get_proxies_and_certificates_and_nothing_else_of_the_environment() -> None:
    text = carry.environment_file(
        {"https_proxy": "http://p:3128", "AWS_SECRET_ACCESS_KEY": "x", "SSL_CERT_FILE": "/ca.pem"}
    )
    assert text.splitlines() == [
        'PIP_CACHE_DIR="/var/cache/vllm-fleet/pip"',
        'SSL_CERT_FILE="/ca.pem"',
        'UV_CACHE_DIR="/var/cache/vllm-fleet/uv"',
        'UV_LINK_MODE="copy"',
        'https_proxy="http://p:3128"',
    ]


def test_the_stub_resolver_of_systemd_is_replaced_by_the_servers_behind_it(tmp_path: Path) -> None:
    real, stub = tmp_path / "real", tmp_path / "stub"
    real.write_text("nameserver 192.0.2.53\nsearch corp.example\n")
    stub.write_text("nameserver 127.0.0.53\noptions edns0\n")
    assert carry.resolv_conf({}, (real, stub)) == "nameserver 192.0.2.53\nsearch corp.example\n"
    assert carry.resolv_conf({}, (stub, real)) == "nameserver 192.0.2.53\nsearch corp.example\n"


def test_a_machine_that_resolves_for_itself_only_is_told_what_to_set(tmp_path: Path) -> None:
    stub = tmp_path / "resolv.conf"
    stub.write_text("nameserver 127.0.0.1\nnameserver ::1\n")
    with pytest.raises(FleetError, match="VLLM_FLEET_LAB_DNS"):
        carry.resolv_conf({}, (stub,))
    assert (
        carry.resolv_conf({"VLLM_FLEET_LAB_DNS": "192.0.2.1 192.0.2.2"})
        == "nameserver 192.0.2.1\nnameserver 192.0.2.2\n"
    )


def test_names_of_mirrors_in_etc_hosts_are_carried_and_the_machines_own_are_not() -> None:
    own = "127.0.0.1 localhost\n::1 ip6-localhost\n127.0.1.1 this\n# note\nff02::1 ip6-allnodes\n"
    mirror = "192.0.2.7 mirror.example mirror # pypi\n"
    assert carry.host_names(own + mirror) == mirror


def test_a_proxy_on_loopback_is_noticed_without_printing_its_password() -> None:
    text = 'Acquire::http::Proxy "http://me:secret@127.0.0.1:3142";\nhttps_proxy="http://proxy.example:3128"\n'
    assert carry.loopback_places(text) == ["http://127.0.0.1:3142"]
