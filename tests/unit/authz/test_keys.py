import copy
import pickle
from dataclasses import FrozenInstanceError
from typing import Any

import nkeys
import pytest

from authz.errors import KeyFormatError, SignatureInvalidError
from authz.keys import (
    AccountPublicKey,
    AccountSeed,
    OperatorPublicKey,
    OperatorSeed,
    UserPublicKey,
    UserSeed,
)

SEEDS = [OperatorSeed, AccountSeed, UserSeed]
PUBLIC = [OperatorPublicKey, AccountPublicKey, UserPublicKey]


@pytest.mark.parametrize(("kind", "letter"), list(zip(SEEDS, "OAU", strict=True)))
def test_a_generated_key_has_the_letter_of_its_kind(kind: Any, letter: str) -> None:
    seed = kind.generate()
    assert seed.public.text[0] == str(seed.public)[0] == letter
    assert seed.reveal()[:2] == "S" + letter


@pytest.mark.parametrize("kind", SEEDS)
def test_a_seed_is_read_back_as_itself(kind: Any) -> None:
    seed = kind.generate()
    assert kind.parse(seed.reveal()) == seed
    assert hash(kind.parse(seed.reveal())) == hash(seed)
    assert type(seed.public).parse(seed.public.text) == seed.public


@pytest.mark.parametrize("kind", SEEDS)
def test_keys_agree_with_the_nats_library(kind: Any) -> None:
    seed = kind.generate()
    theirs = nkeys.from_seed(bytearray(seed.reveal().encode()))
    assert theirs.public_key.decode() == seed.public.text
    assert theirs.sign(b"data") == seed.sign(b"data")


@pytest.mark.parametrize("kind", SEEDS)
@pytest.mark.parametrize("other", SEEDS)
def test_a_key_of_another_kind_is_refused(kind: Any, other: Any) -> None:
    seed = other.generate()
    if kind is other:
        assert kind.parse(seed.reveal()).public == seed.public
        return
    with pytest.raises(KeyFormatError, match="another kind"):
        kind.parse(seed.reveal())
    with pytest.raises(KeyFormatError, match="another kind"):
        kind.public_type.parse(seed.public.text)


def test_a_seed_and_a_public_key_cannot_be_swapped() -> None:
    seed = AccountSeed.generate()
    with pytest.raises(KeyFormatError, match="not an account public key"):
        AccountPublicKey.parse(seed.reveal())
    with pytest.raises(KeyFormatError, match="not an account seed"):
        AccountSeed.parse(seed.public.text)


def test_keys_of_two_kinds_with_the_same_bytes_are_not_equal() -> None:
    raw = bytes(32)
    assert UserSeed(raw) != AccountSeed(raw)
    assert UserSeed(raw) != "text"


@pytest.mark.parametrize("position", [1, 20, 50, 54])
def test_a_mistyped_public_key_is_refused(position: int) -> None:
    text = UserSeed.generate().public.text
    wrong = "B" if text[position] != "B" else "C"
    with pytest.raises(KeyFormatError):
        UserPublicKey.parse(text[:position] + wrong + text[position + 1 :])


@pytest.mark.parametrize("position", [5, 20, 50])
def test_a_mistyped_seed_is_refused_without_being_repeated(position: int) -> None:
    text = UserSeed.generate().reveal()
    wrong = text[:position] + ("B" if text[position] != "B" else "C") + text[position + 1 :]
    with pytest.raises(KeyFormatError, match="checksum") as caught:
        UserSeed.parse(wrong)
    assert wrong not in str(caught.value)


def test_a_seed_spelled_in_a_second_way_is_refused() -> None:
    # 58 characters hold 290 bits, a seed has 288: the last character can be spelled in more than one way.
    text = UserSeed.generate().reveal()
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"
    other = text[:-1] + alphabet[alphabet.index(text[-1]) ^ 1]
    with pytest.raises(KeyFormatError):
        UserSeed.parse(other)


@pytest.mark.parametrize("text", ["", "U", "u" * 56, "U" * 57, "U" * 56 + "\n", "Ü" * 56, "=" * 56, "A" * 300])
def test_text_that_is_no_key_is_refused(text: str) -> None:
    for kind in PUBLIC:
        with pytest.raises(KeyFormatError) as caught:
            kind.parse(text)
        assert caught.value.expected == kind.kind


@pytest.mark.parametrize("text", ["", "S", "SU", "S" * 58, "s" * 58, "SU" + "A" * 57, "SU" + "A" * 55 + "\n"])
def test_text_that_is_no_seed_is_refused(text: str) -> None:
    for kind in SEEDS:
        with pytest.raises(KeyFormatError):
            kind.parse(text)


def test_a_signature_verifies_over_exactly_its_data() -> None:
    seed = UserSeed.generate()
    signature = seed.sign(b"data")
    seed.public.verify(b"data", signature)
    for data, bad in [(b"Data", signature), (b"data", bytes(64)), (b"data", signature[:-1]), (b"data", b"")]:
        with pytest.raises(SignatureInvalidError) as caught:
            seed.public.verify(data, bad)
        assert caught.value.key == seed.public.text


def test_a_signature_of_another_key_does_not_verify() -> None:
    with pytest.raises(SignatureInvalidError):
        UserSeed.generate().public.verify(b"data", UserSeed.generate().sign(b"data"))


@pytest.mark.parametrize("kind", SEEDS)
def test_a_seed_never_prints(kind: Any) -> None:
    seed = kind.generate()
    secret = seed.reveal()
    for shown in (repr(seed), str(seed), f"{seed}", f"{seed!r}", f"{[seed]}", "%s" % seed):  # noqa: UP031
        assert secret not in shown
        assert secret[2:] not in shown
        assert "redacted" in shown


@pytest.mark.parametrize("take", [pickle.dumps, copy.copy, copy.deepcopy])
def test_a_seed_cannot_be_pickled_or_copied(take: Any) -> None:
    with pytest.raises(TypeError, match="can't be pickled"):
        take(UserSeed.generate())


def test_keys_are_immutable() -> None:
    seed = UserSeed.generate()
    with pytest.raises(AttributeError, match="immutable"):
        seed._raw = bytes(32)
    with pytest.raises(AttributeError, match="immutable"):
        del seed._raw
    with pytest.raises(FrozenInstanceError):
        seed.public.text = "U"
