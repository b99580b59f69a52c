"""The trie: the most specific pattern wins, and the first of two equal ones."""

import pytest

from authz.trie import PatternTrie

PATTERNS = ["a.b", "a.*", "a.>", "*.b", ">", "x.*.z", "x.y.>", "a.b"]
TRIE = PatternTrie((pattern, (number, pattern)) for number, pattern in enumerate(PATTERNS))


@pytest.mark.parametrize(
    ("subject", "pattern"),
    [
        ("a.b", "a.b"),
        ("a.c", "a.*"),
        ("a.b.c", "a.>"),
        ("c.b", "*.b"),
        ("a", ">"),
        ("x.y.z", "x.y.>"),
        ("x.q.z", "x.*.z"),
    ],
)
def test_the_most_specific_pattern_wins(subject: str, pattern: str) -> None:
    assert TRIE.find(subject) == (PATTERNS.index(pattern), pattern)


def test_an_empty_trie_finds_nothing() -> None:
    trie: PatternTrie[str] = PatternTrie([])
    assert trie.find("a") is None
    assert list(trie.covering("a")) == []
    assert not trie.overlaps(">")


def test_covering_patterns_are_found_the_most_specific_first() -> None:
    assert [pattern for _, pattern in TRIE.covering("a.b")] == ["a.b", "a.*", "a.>", "*.b", ">"]
    assert [pattern for _, pattern in TRIE.covering("a.*")] == ["a.*", "a.>", ">"]
    assert [pattern for _, pattern in TRIE.covering("a.>")] == ["a.>", ">"]
    assert [pattern for _, pattern in TRIE.covering("a.b.c.d")] == ["a.>", ">"]
    assert [pattern for _, pattern in TRIE.covering("x.y")] == [">"]


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("a.b", True),
        ("a", False),
        ("a.*", True),
        ("*.*", True),
        ("b.>", False),
        ("a.>", True),
        ("*", False),
        ("c", False),
    ],
)
def test_overlap_is_found(pattern: str, *, expected: bool) -> None:
    assert PatternTrie([("a.b", 1), ("a.c.d", 2)]).overlaps(pattern) is expected
    assert PatternTrie([("a.b", 1), (">", 2)]).overlaps(pattern)
