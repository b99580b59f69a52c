"""What a new credentials folder pins: the control plane's key, never another than the issuer's own."""

from pathlib import Path
from typing import Any

import pytest
from fake_client import FakeClient

from authz.keys import AccountSeed, UserSeed
from runtime.client import BadAnswerError
from runtime.client.folderfiles import context_of
from runtime.client.issuing import issue_folder

ISSUED = {"jwt": "e30.e30.e30", "certificate": "PEM", "ca": "PEM", "expires_at": 2_000_000_000}


class Issuer(FakeClient):
    """A client whose folder pins `own`, and who is answered `control`."""

    def __init__(self, own: str, answer: dict[str, Any]) -> None:
        self.identity = type("identity", (), {"url": "tls://127.0.0.1:4222", "control": own})  # type: ignore[assignment,misc]
        self.answers = {"credentials.issue": ISSUED | answer}  # type: ignore[misc]


async def pinned(own: str, **answer: Any) -> object:
    client: Any = Issuer(own, answer)
    issued = await issue_folder(client, tenant="alpha", name="amy", role="nurse", ttl_s=60)
    about: Any = context_of(Path("amy"), issued.contents)["garrison"]
    return about.get("control")


KEY, OTHER = (AccountSeed.generate().public.text for _ in range(2))


async def test_a_new_folder_pins_the_key_that_the_control_plane_names() -> None:
    assert await pinned("", control=KEY) == KEY
    assert await pinned(KEY, control=KEY) == KEY


async def test_an_answer_that_names_another_key_than_the_issuers_own_pin_is_refused() -> None:
    with pytest.raises(BadAnswerError, match="another control plane"):
        await pinned(KEY, control=OTHER)


@pytest.mark.parametrize("control", ["", "A", 7, UserSeed.generate().public.text], ids=range(4))
async def test_an_answer_whose_key_is_none_is_refused(control: object) -> None:
    with pytest.raises(BadAnswerError, match="no key"):
        await pinned("", control=control)


async def test_a_control_plane_that_names_no_key_hands_the_issuers_pin_on() -> None:
    assert await pinned(KEY) == KEY
    assert await pinned("") is None
