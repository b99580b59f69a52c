"""The server's configuration, rendered from ``nats-config/server.conf.template``.

Rules it keeps: every value is written quoted and escaped, and what can't be written safely is refused, so that no path
or name can add a setting. The template holds all of SEC-8 and SEC-10; nothing in it can be switched off from here.

It writes no files: the caller does.
"""

import importlib.resources
import re
from dataclasses import dataclass
from pathlib import Path

from runtime.bus.errors import ServerConfigError

_PLACEHOLDER = re.compile(r"\{\{([a-z_]+)\}\}")
_HIGHEST_PORT = 65_535


@dataclass(frozen=True, kw_only=True, slots=True)
class ServerSettings:
    """What differs from server to server.

    Attributes:
        host: Address to listen on.
        port: Port to listen on; -1 takes a free one.
        server_name: Unique in its cluster.
        operator_jwt: The operator's self-signed claims.
        system_account: Public key of SYS.
        resolver_dir: Where account JWTs are kept, one file each.
        store_dir: Where JetStream keeps its streams.
        certificate: Path of the server's certificate.
        private_key: Path of its key.
        client_ca: Path of the CA that clients' certificates must come from.
        monitor_port: Port of the monitoring page, on loopback only; None for no page.
        max_connections: Over all accounts.
        jetstream_memory: Bytes, over all accounts.
        jetstream_disk: Bytes, over all accounts.
    """

    host: str
    port: int
    server_name: str
    operator_jwt: str
    system_account: str
    resolver_dir: Path
    store_dir: Path
    certificate: Path
    private_key: Path
    client_ca: Path
    monitor_port: int | None = None
    max_connections: int = 16_384
    jetstream_memory: int = 256 << 20
    jetstream_disk: int = 16 << 30


def render(settings: ServerSettings) -> str:
    """Write the configuration.

    Raises:
        ServerConfigError: A value has control characters, or a number is out of range.
    """
    values = _values(settings)
    template = (find_nats_config() / "server.conf.template").read_text(encoding="utf-8")
    body = "\n".join(line for line in template.splitlines() if not line.lstrip().startswith("#"))
    return _PLACEHOLDER.sub(lambda match: values[match[1]], body) + "\n"


def _values(settings: ServerSettings) -> dict[str, str]:
    monitoring = ""
    if settings.monitor_port is not None:
        monitoring = f'http: "127.0.0.1:{_number(settings.monitor_port, "monitor_port", 1, _HIGHEST_PORT)}"'
    return {
        "server_name": _quoted(settings.server_name),
        "host": _quoted(settings.host),
        "port": _number(settings.port, "port", -1, _HIGHEST_PORT),
        "certificate": _quoted(settings.certificate),
        "private_key": _quoted(settings.private_key),
        "client_ca": _quoted(settings.client_ca),
        "operator_jwt": _quoted(settings.operator_jwt),
        "system_account": _quoted(settings.system_account),
        "resolver_dir": _quoted(settings.resolver_dir),
        "store_dir": _quoted(settings.store_dir),
        "max_connections": _number(settings.max_connections, "max_connections", 1, 1 << 20),
        "jetstream_memory": _number(settings.jetstream_memory, "jetstream_memory", 1 << 20, 1 << 50),
        "jetstream_disk": _number(settings.jetstream_disk, "jetstream_disk", 1 << 20, 1 << 60),
        "monitoring": monitoring,
    }


def _quoted(value: str | Path) -> str:
    text = str(value)
    if not text or not text.isprintable():
        raise ServerConfigError(f"`{text!a}` can't be written into the server's configuration")
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _number(value: int, name: str, lowest: int, highest: int) -> str:
    if not lowest <= value <= highest:
        raise ServerConfigError(f"{name} must be from {lowest} to {highest}, not {value}")
    return str(value)


def find_nats_config() -> Path:
    """The folder of configuration files: in the wheel beside ``runtime``, in a checkout at the top."""
    package = Path(str(importlib.resources.files("runtime")))
    for folder in (package / "_nats_config", package.parent / "nats-config"):
        if folder.is_dir():
            return folder
    raise ServerConfigError("the folder nats-config is missing from this installation")
