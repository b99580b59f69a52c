import pytest

from runtime.envelope import base64url


@pytest.mark.parametrize("data", [b"", b"\x00", b"\xfb\xff", b"abc", bytes(range(256))])
def test_bytes_are_spelled_without_padding_and_read_back(data: bytes) -> None:
    text = base64url.encode(data)
    assert "=" not in text
    assert base64url.decode(text) == data


@pytest.mark.parametrize("text", ["A", "AAAAA", "AB", "AAB", "AA==", "AA=", "+/+/", "A A", "AA\n", "é", "\ud800"])
def test_any_other_spelling_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="base64url"):
        base64url.decode(text)
