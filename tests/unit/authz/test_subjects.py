"""Subjects: the grammar, and matching, covering and overlapping as in NATS."""

import pytest

from authz.subjects import SubjectFormatError, covers, matches, overlaps, parse_pattern, parse_subject


@pytest.mark.parametrize("text", ["a", "a.b", "a.*.c", "a.>", ">", "*", "_INBOX.{{subject()}}.>", "$SYS.REQ.USER.INFO"])
def test_patterns_are_split_into_tokens(text: str) -> None:
    assert parse_pattern(text) == tuple(text.split("."))


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "1 to 1024"),
        ("a" * 1025, "1 to 1024"),
        (7, "1 to 1024"),
        (".a", "empty token"),
        ("a.", "empty token"),
        ("a..b", "empty token"),
        ("a b", "space"),
        ("a\x7f", "control"),
        ("a\r\nPUB x 0", "control"),
        ("a.>.b", "comes last"),
        ("a.b*", "inside a token"),
        ("a.**", "inside a token"),
        ("a.>>", "inside a token"),
    ],
)
def test_what_is_not_a_pattern_is_refused_with_what_is_wrong(text: str, problem: str) -> None:
    with pytest.raises(SubjectFormatError, match=problem) as caught:
        parse_pattern(text)
    assert caught.value.text == text


def test_a_subject_has_no_wildcards() -> None:
    assert parse_subject("a.b") == ("a", "b")
    for text in ("a.*", ">"):
        with pytest.raises(SubjectFormatError, match="wildcard"):
            parse_subject(text)


@pytest.mark.parametrize(
    ("pattern", "subject", "expected"),
    [
        ("a.b", "a.b", True),
        ("a.b", "a", False),
        ("a", "a.b", False),
        ("a.*", "a.b", True),
        ("a.*", "a", False),
        ("a.*", "a.b.c", False),
        ("a.>", "a.b.c", True),
        ("a.>", "a", False),
        (">", "a", True),
        ("*.b", "a.b", True),
        ("*.b", "a.c", False),
    ],
)
def test_patterns_match_as_in_nats(pattern: str, subject: str, *, expected: bool) -> None:
    assert matches(pattern, subject) is expected


@pytest.mark.parametrize(
    ("wide", "narrow", "expected"),
    [
        (">", "a.>", True),
        (">", ">", True),
        ("a.>", "a.*", True),
        ("a.*", "a.>", False),
        ("*.>", ">", False),
        ("a.*.c", "a.b.c", True),
        ("a.b.c", "a.*.c", False),
        ("*", "*", True),
    ],
)
def test_one_pattern_covers_another(wide: str, narrow: str, *, expected: bool) -> None:
    assert covers(wide, narrow) is expected


@pytest.mark.parametrize(
    ("left", "right", "expected"),
    [
        ("a.*", "*.b", True),
        ("a.>", "*.b", True),
        ("a.>", "a", False),
        ("a.b", "a.c", False),
        ("*", "*.*", False),
        (">", "$SYS.x", True),
        ("a.*.c", "a.b.>", True),
    ],
)
def test_overlap_is_symmetric(left: str, right: str, *, expected: bool) -> None:
    assert overlaps(left, right) is expected
    assert overlaps(right, left) is expected
