import json
from pathlib import Path

import pytest

from authz.tokens import decode_account, decode_operator, decode_user
from certs.keystore import KeyStore
from certs.masterkey import MasterKey
from runtime.control.accounts import FOREVER, gate_permissions, next_issued_at
from runtime.control.bootstrap import PlatformCredentials, ensure_platform
from runtime.control.errors import StateDamagedError, StateVersionError
from runtime.control.memory import MemoryKeys

NOW = 1_800_000_000.0


def test_keys_are_made_once_and_read_back_the_same(tmp_path: Path) -> None:
    master = MasterKey.load(directory=tmp_path, environ={})
    first = ensure_platform(KeyStore(tmp_path / "keys", master), NOW)
    again = ensure_platform(KeyStore(tmp_path / "keys", master), NOW + 1000)
    assert again.operator_jwt() == first.operator_jwt()
    assert again.initial_account_jwts() == first.initial_account_jwts()
    assert again.authority.certificate_pem == first.authority.certificate_pem
    assert again.platform == first.platform


def test_a_failed_write_leaves_no_keys_behind() -> None:
    class Full(MemoryKeys):
        def put(self, name: str, data: bytes) -> None:
            raise OSError(28, f"no space for {name} {len(data)}")

    keys = Full()
    with pytest.raises(OSError, match="no space"):
        ensure_platform(keys, NOW)
    assert keys.names() == ()


@pytest.mark.parametrize(
    ("stored", "error"),
    [
        (b'{"v": 2}', StateVersionError),
        (b"{", StateDamagedError),
        (b'{"v": 1}', StateDamagedError),
        (b"[]", StateDamagedError),
    ],
)
def test_unreadable_keys_are_refused_and_not_replaced(stored: bytes, error: type[Exception]) -> None:
    keys = MemoryKeys()
    keys.put("platform", stored)
    with pytest.raises(error):
        ensure_platform(keys, NOW)
    assert keys.get("platform") == stored


def test_damaged_keys_are_never_quoted() -> None:
    keys = MemoryKeys()
    ensure_platform(keys, NOW)
    document = json.loads(keys.get("platform"))
    document["operator"] = 5
    seed = document["operator_identity"]
    keys.put("platform", json.dumps(document).encode())
    with pytest.raises(StateDamagedError) as refused:
        ensure_platform(keys, NOW)
    assert refused.value.__cause__ is None
    assert seed not in str(refused.value)


def test_platform_keys_never_print() -> None:
    keys = MemoryKeys()
    platform = ensure_platform(keys, NOW)
    stored = json.loads(keys.get("platform"))
    for secret in (stored["operator"], stored["platform"], *stored["sys"], stored["authority_key"]):
        assert secret not in repr(platform)


def test_operator_accepts_signing_keys_only_and_names_the_system_account() -> None:
    platform = ensure_platform(MemoryKeys(), NOW)
    claims = decode_operator(platform.operator_jwt())
    assert claims.strict_signing_keys
    assert claims.system_account == platform.sys.public
    for account, token in platform.initial_account_jwts().items():
        assert decode_account(token).subject == account
        assert decode_account(token).issuer in claims.signing_keys


def test_own_credentials_are_fresh_each_time_short_and_narrow() -> None:
    platform = ensure_platform(MemoryKeys(), NOW)
    own = PlatformCredentials(platform, lambda: NOW)
    assert own.control_creds().seed != own.control_creds().seed
    for creds in (own.control_creds(), own.system_creds()):
        claims = decode_user(creds.jwt, now=NOW)
        assert claims.expires_at == int(NOW) + 24 * 3600
        assert claims.permissions is not None
        assert ">" not in claims.permissions.publish_allow
        assert f"_INBOX.{creds.seed.public}.>" in claims.permissions.subscribe_allow


def test_gate_and_control_import_nothing_and_gate_stores_nothing() -> None:
    """SEC-2, SEC-10."""
    platform = ensure_platform(MemoryKeys(), NOW)
    gate, control = platform.gate_claims(1, {}), platform.control_claims(1)
    assert gate.imports == control.imports == ()
    assert gate.limits.jetstream.streams == gate.limits.leaf_nodes == control.limits.leaf_nodes == 0
    for claims in (gate, control):
        (export,) = claims.exports
        assert (export.account_token_position, export.response_type, export.response_threshold_s) == (
            2,
            "Singleton",
            31,
        )
        assert claims.limits.disallow_bearer


def test_host_in_gate_may_publish_nothing_but_one_answer() -> None:
    """SEC-2, SEC-10."""
    permissions = gate_permissions("A" + "A" * 55)
    assert permissions.publish_deny == (">",)
    assert permissions.responses is not None
    assert permissions.responses.max == 1


def test_issue_dates_only_rise() -> None:
    """SEC-9."""
    assert next_issued_at(100.9, 50) == 100
    assert next_issued_at(100.9, 100) == 101
    assert next_issued_at(10, 100) == 101
    assert FOREVER > 2**35
