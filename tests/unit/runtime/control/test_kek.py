from pathlib import Path

import pytest

from certs.keystore import KeyStore
from certs.masterkey import MasterKey
from runtime.control.errors import StateDamagedError
from runtime.control.kek import KeyWrapper
from runtime.envelope.datakey import DataKey
from runtime.envelope.keyid import parse


@pytest.fixture
def wrapper(tmp_path: Path) -> KeyWrapper:
    return KeyWrapper(KeyStore(tmp_path / "keys", MasterKey(MasterKey.generate(), source="the test")))


def test_wrapped_key_unwraps_to_itself_and_looks_different_each_time(wrapper: KeyWrapper) -> None:
    dek = DataKey.generate(parse("phi@1"))
    first, second = wrapper.wrap("st-marys", dek), wrapper.wrap("st-marys", dek)
    assert first != second
    assert wrapper.unwrap("st-marys", dek.key_id, first) == dek
    assert dek.reveal() not in first


def test_wrapped_key_moved_to_another_tenant_or_name_does_not_unwrap(wrapper: KeyWrapper) -> None:
    dek = DataKey.generate(parse("phi@1"))
    wrapped = wrapper.wrap("st-marys", dek)
    wrapper.wrap("lakeside", DataKey.generate(parse("phi@1")))
    for tenant, key_id in (("lakeside", "phi@1"), ("st-marys", "phi@2"), ("st-marys", "pii@1")):
        with pytest.raises(StateDamagedError):
            wrapper.unwrap(tenant, parse(key_id), wrapped)


def test_any_changed_byte_of_a_wrapped_key_is_noticed(wrapper: KeyWrapper) -> None:
    dek = DataKey.generate(parse("phi@1"))
    wrapped = wrapper.wrap("st-marys", dek)
    for at in range(len(wrapped)):
        changed = wrapped[:at] + bytes([wrapped[at] ^ 1]) + wrapped[at + 1 :]
        with pytest.raises(StateDamagedError):
            wrapper.unwrap("st-marys", dek.key_id, changed)
    for short in (b"", wrapped[:11], wrapped[:20]):
        with pytest.raises(StateDamagedError):
            wrapper.unwrap("st-marys", dek.key_id, short)


def test_destroying_the_kek_destroys_every_key_of_the_tenant(wrapper: KeyWrapper) -> None:
    dek = DataKey.generate(parse("phi@1"))
    wrapped = wrapper.wrap("st-marys", dek)
    wrapper.shred("st-marys")
    wrapper.shred("st-marys")  # asked for twice, it is safe
    with pytest.raises(StateDamagedError):
        wrapper.unwrap("st-marys", dek.key_id, wrapped)
