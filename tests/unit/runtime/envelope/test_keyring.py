import pytest
from envelope_keys import PATIENT, PHI, data_key

from runtime.envelope.errors import KeyDestroyedError, KeyUnavailableError
from runtime.envelope.keyid import KeyId, KeyScope, parse
from runtime.envelope.keyring import Keyring, KeyState, KeyVersion

SCOPE = KeyScope("phi")


def version(text: str, state: KeyState = "active", fill: int | None = 1) -> KeyVersion:
    key_id = parse(text)
    held = None if fill is None or state == "destroyed" else data_key(key_id, fill)
    return KeyVersion(key_id=key_id, state=state, dek=held)


def test_empty_ring_neither_seals_nor_opens() -> None:
    ring = Keyring()
    assert len(ring) == 0
    with pytest.raises(KeyUnavailableError):
        ring.sealing_key(SCOPE)
    with pytest.raises(KeyUnavailableError):
        ring.opening_key(PHI)


def test_newest_active_version_seals_in_whatever_order_they_came() -> None:
    versions = [version("phi@1"), version("phi@3"), version("phi@2"), version("phi@4", "opening")]
    for ring in (Keyring(versions), Keyring(reversed(versions))):
        assert ring.sealing_key(SCOPE).key_id == parse("phi@3")
        active = ring.active(SCOPE)
        assert active is not None
        assert active.key_id == parse("phi@3")


def test_any_version_that_is_not_destroyed_opens_by_its_own_id_alone() -> None:
    ring = Keyring([version("phi@1", "opening"), version("phi@2")])
    assert ring.opening_key(parse("phi@1")).key_id == parse("phi@1")
    assert ring.opening_key(parse("phi@2")).key_id == parse("phi@2")
    with pytest.raises(KeyUnavailableError) as caught:
        ring.opening_key(parse("phi@3"))
    assert caught.value.wanted == "phi@3"


def test_destroyed_version_neither_opens_nor_seals_and_has_no_bytes() -> None:
    ring = Keyring([version("phi@1")]).destroyed(PHI)
    with pytest.raises(KeyDestroyedError):
        ring.opening_key(PHI)
    with pytest.raises(KeyUnavailableError):
        ring.sealing_key(SCOPE)
    with pytest.raises(ValueError, match="phi@1"):
        KeyVersion(key_id=PHI, state="destroyed", dek=data_key())


def test_destroyed_version_stays_destroyed() -> None:
    ring = Keyring().destroyed(PHI)
    for state in ("active", "opening"):
        with pytest.raises(KeyDestroyedError):
            ring.with_version(version("phi@1", state))
    assert len(ring.destroyed(PHI)) == 1


def test_a_version_known_by_name_only_has_to_be_asked_for() -> None:
    ring = Keyring([version("phi@1", fill=None)])
    with pytest.raises(KeyUnavailableError):
        ring.sealing_key(SCOPE)
    with pytest.raises(KeyUnavailableError):
        ring.opening_key(PHI)
    assert ring.with_version(version("phi@1")).sealing_key(SCOPE) == data_key(PHI, 1)


def test_keys_of_one_data_subject_never_stand_in_for_the_labels_nor_the_reverse() -> None:
    general = Keyring([version("phi@1")])
    with pytest.raises(KeyUnavailableError):
        general.sealing_key(PATIENT.scope)
    with pytest.raises(KeyUnavailableError):
        Keyring([version("phi/patient/4711@2")]).sealing_key(SCOPE)


def test_rotation_makes_a_new_active_version_and_leaves_the_older_ones_opening() -> None:
    first = Keyring().rotated(data_key(PHI)).rotated(data_key(parse("phi/patient/4711@1")))
    second = first.rotated(data_key(first.next_id(SCOPE), 9))
    assert [(str(v.key_id), v.state) for v in second] == [
        ("phi@1", "opening"),
        ("phi@2", "active"),
        ("phi/patient/4711@1", "active"),
    ]
    assert second.opening_key(PHI) == data_key(PHI)
    assert [v.state for v in first] == ["active", "active"]  # a ring is never changed


def test_number_of_a_destroyed_version_is_never_given_again() -> None:
    ring = Keyring().rotated(data_key()).destroyed(PHI)
    assert ring.next_id(SCOPE) == parse("phi@2")
    with pytest.raises(ValueError, match="next"):
        ring.rotated(data_key())


def test_what_is_known_of_a_version_can_be_asked() -> None:
    ring = Keyring([version("phi@1", "opening")])
    found = ring.version(PHI)
    assert found is not None
    assert found.state == "opening"
    assert ring.version(PATIENT) is None
    assert ring.active(SCOPE) is None


def test_a_version_can_not_hold_the_key_of_another() -> None:
    with pytest.raises(ValueError, match="phi@1"):
        KeyVersion(key_id=PHI, state="active", dek=data_key(PATIENT))


def test_versions_are_listed_by_number_and_never_show_their_bytes() -> None:
    ring = Keyring([version(f"phi@{n}", fill=3) for n in (10, 2, 1)])
    assert [v.key_id for v in ring] == [KeyId("phi", None, n) for n in (1, 2, 10)]
    assert repr(ring) == "Keyring(3 versions)"
    assert "redacted" in repr(list(ring))
    assert "\\x03" not in repr(list(ring))
