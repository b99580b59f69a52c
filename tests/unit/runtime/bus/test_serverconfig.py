import dataclasses
from pathlib import Path

import pytest

from runtime.bus.errors import ServerConfigError
from runtime.bus.serverconfig import ServerSettings, find_nats_config, render

SETTINGS = ServerSettings(
    host="127.0.0.1",
    port=4222,
    server_name="n1",
    operator_jwt="e.y.J",
    system_account="A" * 56,
    resolver_dir=Path("/r"),
    store_dir=Path("/s"),
    certificate=Path("/c.pem"),
    private_key=Path("/k.pem"),
    client_ca=Path("/ca.pem"),
)


def with_(**changes: object) -> ServerSettings:
    return dataclasses.replace(SETTINGS, **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "line",
    [
        "handshake_first: true",
        "verify: true",
        'min_version: "1.3"',
        "authorization { timeout: 2 }",
        "max_control_line: 4096",
        "max_payload: 1048576",
        "max_pending: 67108864",
        'interval: "5s"',
        "allow_delete: true",
        "type: full",
        'store_dir: "/s"',
        'dir: "/r"',
    ],
)
def test_rules_of_the_design_are_in_it(line: str) -> None:
    assert line in render(SETTINGS)


def test_no_placeholder_and_no_comment_is_left() -> None:
    text = render(SETTINGS)
    assert "{{" not in text
    assert "#" not in text


def test_paths_are_quoted_so_that_they_can_add_no_setting() -> None:
    text = render(with_(store_dir=Path('/a b"; port: 1; x: "c\\d')))
    assert r'store_dir: "/a b\"; port: 1; x: \"c\\d"' in text


def test_placeholder_in_a_value_is_not_filled_in() -> None:
    assert 'server_name: "{{operator_jwt}}"' in render(with_(server_name="{{operator_jwt}}"))


@pytest.mark.parametrize("value", ["", "a\nb", "a\x00", "a\x1b[0m", "a\u2028b"])
def test_value_that_can_not_be_written_is_refused(value: str) -> None:
    with pytest.raises(ServerConfigError):
        render(with_(server_name=value))


@pytest.mark.parametrize("change", [{"port": 65_536}, {"port": -2}, {"monitor_port": 0}, {"max_connections": 0}])
def test_number_out_of_range_is_refused(change: dict[str, int]) -> None:
    with pytest.raises(ServerConfigError):
        render(with_(**change))


def test_monitoring_is_off_unless_asked_for_and_then_on_loopback() -> None:
    assert "http" not in render(SETTINGS)
    assert 'http: "127.0.0.1:8222"' in render(with_(monitor_port=8222))


def test_configuration_folder_is_found() -> None:
    assert (find_nats_config() / "server.conf.template").is_file()
