"""The page on the wire: what it shows is what the vectors have, and every format has its version on it."""

import json
import re
from pathlib import Path

import pytest

from runtime.envelope.errors import EnvelopeError
from runtime.envelope.messages import Request, Result, parse_request, parse_response
from runtime.envelope.sealedmessages import SealedRequest, parse_any_request
from runtime.envelope.unwrap import parse_unwrap_request

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/wire.md").read_text(encoding="utf-8")
VECTORS = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in (ROOT / "tests/vectors").iterdir()}
JSON_BLOCKS = re.findall(r"```json\n(.*?)```", PAGE, flags=re.DOTALL)
TEXT_BLOCKS = re.findall(r"```text\n(.*?)```", PAGE, flags=re.DOTALL)
CID = VECTORS["messages"]["correlation_id"]


def test_lines_on_the_page_are_those_of_the_vectors() -> None:
    sealing, sender = VECTORS["sealing"]["valid"][0], VECTORS["agent-sender"]["valid"][0]
    assert [sealing["header"], sender["signed_text"]] == TEXT_BLOCKS


def test_messages_on_the_page_are_read_as_it_says() -> None:
    plain, sealed, answer = (block.encode() for block in JSON_BLOCKS[:3])
    request = parse_request(plain, fallback_id="")
    assert isinstance(request, Request)
    assert request.correlation_id == CID
    assert json.loads(request.data) == json.loads(VECTORS["messages"]["request"]["data"])
    assert isinstance(parse_any_request(sealed, fallback_id=""), SealedRequest)
    result = parse_response(answer)
    assert isinstance(result, Result)
    assert json.loads(result.result) == json.loads(VECTORS["messages"]["response"]["result"])


def test_shortened_tokens_on_the_page_begin_as_those_of_the_vectors() -> None:
    whole = json.dumps(VECTORS, ensure_ascii=False)
    for beginning in re.findall(r'"([A-Za-z0-9_-]{4,})…"', PAGE):
        assert f'"{beginning}' in whole, beginning


def test_unwrap_requests_on_the_page_are_read() -> None:
    block = next(block for block in JSON_BLOCKS if "one_time_key" in block)
    wanted = [str(parse_unwrap_request(line.encode()).wanted) for line in block.splitlines()]
    assert wanted == ["phi@1", "phi/patient/4711"]
    with pytest.raises(EnvelopeError):
        parse_unwrap_request(b"{}")


@pytest.mark.parametrize("name", ["sealing", "agent-sender", "unwrap"])
def test_every_format_is_on_the_page_under_its_versioned_label(name: str) -> None:
    assert f"`{VECTORS[name]['format']}`" in PAGE


@pytest.mark.parametrize("name", VECTORS)
def test_every_file_of_vectors_is_on_the_page(name: str) -> None:
    assert f"`{name}.json`" in PAGE
