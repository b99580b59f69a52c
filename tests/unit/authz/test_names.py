"""Names: each grammar admits what it says and refuses what would mean something to NATS, a shell or a path."""

from collections.abc import Callable

import pytest

from authz.names import (
    NameFormatError,
    agent_name,
    capability_name,
    label_name,
    role_name,
    tenant_name,
    user_name,
)

LOWER = [tenant_name, agent_name, label_name]
MIXED = [role_name, user_name]
HOSTILE = [
    "",
    "*",
    ">",
    "a.b",
    "a b",
    "a\n",
    "\ta",
    "$SYS",
    "a/b",
    "..",
    "{{name()}}",
    "a" * 300,
    "nurs\u0435",
    "\u00e9",
    "\u0661",
    "a\x00",
]


@pytest.mark.parametrize("check", LOWER)
@pytest.mark.parametrize("name", ["a", "0", "st-marys", "a_b-c", "a" * 63])
def test_lower_case_names_are_returned_as_given(check: Callable[[str], str], name: str) -> None:
    assert check(name) == name


@pytest.mark.parametrize("check", MIXED)
@pytest.mark.parametrize("name", ["a", "-", "_", "Nurse-1", "a" * 64])
def test_mixed_case_names_are_returned_as_given(check: Callable[[str], str], name: str) -> None:
    assert check(name) == name


@pytest.mark.parametrize("check", [*LOWER, *MIXED])
@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names_are_refused(check: Callable[[str], str], name: str) -> None:
    with pytest.raises(NameFormatError):
        check(name)


@pytest.mark.parametrize("check", LOWER)
@pytest.mark.parametrize("name", ["-a", "_a", "A", "a" * 64])
def test_lower_case_names_begin_with_a_letter_or_digit(check: Callable[[str], str], name: str) -> None:
    with pytest.raises(NameFormatError):
        check(name)


@pytest.mark.parametrize("name", ["a", "vitals.assess", "a.b.c.d", "-", "_x", "a" * 64])
def test_capabilities_are_one_to_four_tokens(name: str) -> None:
    assert capability_name(name) == name


@pytest.mark.parametrize(
    "name",
    ["", "a.b.c.d.e", ".a", "a.", "a..b", "A", "a.*", "a.>", "*", ">", "a b", "a\n", "a" * 65, "$SYS.x", "\u0430"],
)
def test_what_is_not_a_capability_is_refused(name: str) -> None:
    with pytest.raises(NameFormatError):
        capability_name(name)


def test_what_is_not_text_is_refused() -> None:
    with pytest.raises(NameFormatError) as caught:
        tenant_name(7)  # type: ignore[arg-type]
    assert "`7`" in str(caught.value)


def test_the_message_says_what_is_named_what_was_given_and_what_it_must_be() -> None:
    with pytest.raises(NameFormatError) as caught:
        user_name("no body")
    assert str(caught.value) == "user name `no body` must be 1 to 64 of `A-Z`, `a-z`, `0-9`, `_` and `-`"
    assert (caught.value.kind, caught.value.text) == ("user name", "no body")


def test_look_alikes_line_ends_backticks_and_length_can_not_mislead_in_a_message() -> None:
    with pytest.raises(NameFormatError) as caught:
        role_name("nurs\u0435\n`" + "x" * 300)
    shown = str(caught.value)
    assert "nurs\\u0435\\n'" in shown
    assert "\n" not in shown
    assert len(shown) < 200
