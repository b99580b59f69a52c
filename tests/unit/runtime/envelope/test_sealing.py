import copy
import pickle

import pytest
from envelope_keys import NOW, OTHER_CID, PATIENT, PHI, binding, data_key

from runtime.envelope.datakey import DataKey
from runtime.envelope.errors import SealError
from runtime.envelope.keyid import parse
from runtime.envelope.sealing import Binding, open_token, seal

PAYLOAD = b'{"name":"Ada"}'


def reason_of(token: str, expected: Binding, dek: DataKey) -> str:
    with pytest.raises(SealError) as caught:
        open_token(token, expected, dek)
    assert str(caught.value) == "sealed data does not open"
    return caught.value.reason


def test_what_is_sealed_opens_where_it_was_meant_to() -> None:
    token = seal(binding(), PAYLOAD, data_key())
    assert open_token(token, binding(), data_key()) == PAYLOAD
    assert "Ada" not in token


def test_payload_may_be_any_bytes_line_ends_and_emptiness_included() -> None:
    for payload in (b"", b"\n\n", b"GARRISON-SEAL-V1\nfernet\n", bytes(range(256))):
        assert open_token(seal(binding(), payload, data_key()), binding(), data_key()) == payload


def test_two_sealings_of_one_payload_have_nothing_in_common_to_see() -> None:
    assert seal(binding(), PAYLOAD, data_key()) != seal(binding(), PAYLOAD, data_key())


def test_token_moved_to_another_tenant_does_not_open_though_all_names_are_the_same() -> None:
    token = seal(binding(), PAYLOAD, data_key())
    assert reason_of(token, binding(), data_key(fill=8)) == "token-refused"


@pytest.mark.parametrize("moved", ["billing@1", "phi/patient/4711@1", "phi/patient/4712@1", "phi@2"])
def test_token_moved_to_another_label_subject_or_version_does_not_open(moved: str) -> None:
    token = seal(binding(), PAYLOAD, data_key())
    other = parse(moved)
    # the keys differ, so it is not even decrypted; and were the bytes the same, the bound key id would still differ
    assert reason_of(token, binding(key_id=other), data_key(other, fill=9)) == "token-refused"
    assert reason_of(token, binding(key_id=other), data_key(other)) == "key-id"


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"name": "vitals.export"}, "name"),
        ({"name": "vitals"}, "name"),
        ({"direction": "response"}, "direction"),
        ({"direction": "chunk"}, "direction"),
        ({"correlation_id": OTHER_CID}, "correlation-id"),
        ({"sequence": 1}, "sequence"),
        ({"timestamp": NOW + 60}, "time"),
        ({"timestamp": NOW - 60}, "time"),
        ({"timestamp": 17e8}, "time"),
    ],
)
def test_token_moved_to_another_call_does_not_open(changes: dict[str, object], reason: str) -> None:
    token = seal(binding(), PAYLOAD, data_key())
    assert reason_of(token, binding(**changes), data_key()) == reason


def test_algorithm_is_bound_inside_and_only_fernet_is_known() -> None:
    token = data_key().encrypt(b"GARRISON-SEAL-V1\nnone\nphi@1\n" + b"x\n" * 5, at=0)
    assert reason_of(token, binding(), data_key()) == "alg"
    with pytest.raises(SealError):
        seal(binding(alg="none"), PAYLOAD, data_key())
    assert reason_of(token, binding(alg="none"), data_key()) == "alg"


def header(*, magic: str = "GARRISON-SEAL-V1", time: str = "1700000000.5") -> bytes:
    return f"{magic}\nfernet\nphi@1\nrequest\nvitals.assess\n7d0f1a52-6c1b-4a44-9d0e-0f4e5f6a7b8c\n0\n{time}\n".encode()


@pytest.mark.parametrize("plaintext", [b"", b"GARRISON-SEAL-V1", PAYLOAD, b"\n" * 7])
def test_plain_fernet_token_without_the_bound_header_does_not_open(plaintext: bytes) -> None:
    assert reason_of(data_key().encrypt(plaintext, at=0), binding(), data_key()) == "header"


def test_another_version_of_the_format_does_not_open() -> None:
    token = data_key().encrypt(header(magic="GARRISON-SEAL-V2") + PAYLOAD, at=0)
    assert reason_of(token, binding(), data_key()) == "magic"


@pytest.mark.parametrize("time", ["1700000000.50", "17000000005e-1", "1.7000000005E9", "1700000000.5"])
def test_time_is_compared_as_a_number_since_languages_spell_it_differently(time: str) -> None:
    token = data_key().encrypt(header(time=time) + PAYLOAD, at=0)
    assert open_token(token, binding(), data_key()) == PAYLOAD


@pytest.mark.parametrize(
    "time",
    [
        "",
        "now",
        "nan",
        "inf",
        " 1700000000.5",
        "1_700_000_000.5",
        "01700000000.5",
        "1" * 99,
        "1e" + "9" * 38,
        "1e" + "9" * 39,
        "-0",
        "0x1",
        "1.",
        "1e",
    ],
)
def test_time_that_is_no_json_number_does_not_open(time: str) -> None:
    token = data_key().encrypt(header(time=time) + PAYLOAD, at=0)
    assert reason_of(token, binding(), data_key()) == "time"


@pytest.mark.parametrize(
    "changes",
    [
        {"name": "vitals.assess\nx"},
        {"correlation_id": "a\n"},
        {"name": "\ud800"},
        {"sequence": -1},
        {"timestamp": -1.0},
        {"timestamp": float("nan")},
        {"timestamp": float("inf")},
        {"timestamp": 2.0**53},
    ],
)
def test_what_can_not_stand_on_its_line_is_neither_sealed_nor_expected(changes: dict[str, object]) -> None:
    token = seal(binding(), PAYLOAD, data_key())
    with pytest.raises(SealError):
        seal(binding(**changes), PAYLOAD, data_key())
    assert reason_of(token, binding(**changes), data_key()) == "binding"


def test_binding_that_names_another_key_than_the_one_at_hand_is_refused() -> None:
    with pytest.raises(SealError) as caught:
        seal(binding(), PAYLOAD, data_key(PATIENT))
    assert caught.value.reason == "key-mismatch"
    assert reason_of(seal(binding(), PAYLOAD, data_key()), binding(), data_key(PATIENT)) == "key-mismatch"


@pytest.mark.parametrize(
    "token", ["", "=", "====", "A===", "gAAAAA", "gAAA\n", "gAAé", "gAA+", "gAA/", "\ud800", "gA==AAAA"]
)
def test_text_that_is_not_a_token_in_its_one_spelling_does_not_open(token: str) -> None:
    assert reason_of(token, binding(), data_key()) == "token-form"


def test_every_changed_character_of_a_token_keeps_it_shut() -> None:
    dek = data_key()
    for size in range(48):  # every kind of padding
        token = seal(binding(), b"x" * size, dek)
        for at in (0, 20, len(token) - 3, len(token) - 2, len(token) - 1):
            for bit in range(8):
                changed = token[:at] + chr(ord(token[at]) ^ (1 << bit)) + token[at + 1 :]
                assert reason_of(changed, binding(), dek) in {"token-form", "token-refused"}


def test_data_key_never_prints_pickles_or_copies() -> None:
    dek = data_key()
    for text in (repr(dek), str(dek), f"{dek}"):
        assert "redacted" in text
        assert "07" not in text
        assert "\\x" not in text
    for way in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError):
            way(dek)


def test_data_keys_are_random_of_32_bytes_and_equal_by_name_and_bytes() -> None:
    one, two = DataKey.generate(PHI), DataKey.generate(PHI)
    assert one.reveal() != two.reveal()
    assert len(one.reveal()) == 32
    assert one != two
    assert DataKey(PHI, one.reveal()) == one
    assert hash(DataKey(PHI, one.reveal())) == hash(one)
    assert DataKey(PATIENT, one.reveal()) != one
    assert one != "phi@1"
    with pytest.raises(ValueError, match="32 bytes"):
        DataKey(PHI, b"short")
