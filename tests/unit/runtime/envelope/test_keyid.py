import pytest

from authz.names import NameFormatError, label_name
from runtime.envelope.errors import KeyIdError
from runtime.envelope.keyid import MAX_VERSION, KeyId, KeyScope, parse, parse_scope

LONGEST = "l" * 63 + "/" + "/".join(["s" * 64] * 4) + "@999999999"


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("phi@1", ("phi", None, 1)),
        ("phi/patient/4711@2", ("phi", "patient/4711", 2)),
        ("0-a_b/A.b_c-D@10", ("0-a_b", "A.b_c-D", 10)),
        ("phi/a/b/c/d@1", ("phi", "a/b/c/d", 1)),
        ("phi/..a@1", ("phi", "..a", 1)),
        (LONGEST, (LONGEST[:63], LONGEST[64:-10], MAX_VERSION)),
    ],
)
def test_key_id_is_read_and_spells_itself(text: str, parts: tuple[str, str | None, int]) -> None:
    key_id = parse(text)
    assert (key_id.label, key_id.subject, key_id.version) == parts
    assert str(key_id) == text
    assert str(key_id.scope) + f"@{key_id.version}" == text
    assert parse_scope(str(key_id.scope)) == key_id.scope
    assert key_id.scope.at(key_id.version) == key_id
    assert hash(parse(text)) == hash(key_id)


@pytest.mark.parametrize(
    "text",
    [
        "", "phi", "phi@", "@1", "phi@0", "phi@01", "phi@-1", "phi@+1", "phi@1 ", " phi@1", "phi@1\n", "phi@1@2",
        "Phi@1",
        "-phi@1", "phi/@1", "phi//x@1", "/x@1", "phi/a/b/c/d/e@1", "phi/a b@1", "phi/*@1", "phi/>@1", "phi/.@1",
        "phi/..@1",
        "phi/../x@1", "phi/x/..@1", "phi/é@1", "phi@\u0661", "phi@1000000000", "phi@" + "9" * 10_000, "p" * 64 + "@1",
        "phi/" + "s" * 65 + "@1", "\ud800@1",
    ],
)  # fmt: skip
def test_text_that_is_no_key_id_is_refused_and_not_repaired(text: str) -> None:
    with pytest.raises(KeyIdError) as caught:
        parse(text)
    assert len(caught.value.text) <= 300
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["", "phi@1", "phi/", "PHI", "phi/..", "phi\n", "x" * 500])
def test_text_that_is_no_scope_is_refused(text: str) -> None:
    with pytest.raises(KeyIdError):
        parse_scope(text)


def test_scope_is_put_together_from_checked_parts_only() -> None:
    assert KeyScope.of("phi") == KeyScope("phi")
    assert KeyScope.of("phi", "patient/4711") == KeyScope("phi", "patient/4711")
    for label, subject in (("phi/x", None), ("phi", ""), ("phi", "a/../b"), ("", None), ("phi@1", None), ("", "phi/x")):
        with pytest.raises(KeyIdError):
            KeyScope.of(label, subject)


@pytest.mark.parametrize("version", [0, -1, MAX_VERSION + 1])
def test_version_out_of_range_has_no_name(version: int) -> None:
    with pytest.raises(KeyIdError):
        KeyScope("phi").at(version)


@pytest.mark.parametrize("label", ["phi", "0", "a" * 63, "a" * 64, "A", "-a", "_a", "a.b", "a/b", "", "é"])
def test_labels_are_those_of_the_policy(label: str) -> None:
    try:
        label_name(label)
    except NameFormatError:
        with pytest.raises(KeyIdError):
            KeyScope.of(label)
    else:
        assert KeyScope.of(label) == KeyScope(label)


def test_different_keys_are_never_equal() -> None:
    ids = {KeyId("phi", None, 1), KeyId("phi", None, 2), KeyId("phi", "x", 1), KeyId("x", None, 1)}
    assert len(ids) == len({str(i) for i in ids}) == 4
