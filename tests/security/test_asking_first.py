"""SEC-12 before the first call: an answer to the question that can't be understood sends no data."""

from pathlib import Path

import pytest
from client_folders import write_client_folder
from described import answered_description
from fixtures_server import Realm

from runtime.bus.message import Message
from runtime.client import BadAnswerError, Client


@pytest.mark.parametrize("label", ["PHI", "phi@1", ""])
async def test_sec_12_label_that_can_not_be_is_not_taken_for_none(realm: Realm, tmp_path: Path, label: str) -> None:
    host = await realm.connect(realm.user(realm.accounts["ALPHA"]))
    sent: list[bytes] = []

    def answer(message: Message) -> None:
        if not answered_description(host, message, sensitive=label):
            sent.append(message.data)

    await host.subscribe("ai.capabilities.vitals.assess", answer)
    await host.flush()
    folder = write_client_folder(realm, tmp_path / "amy", realm.user(realm.accounts["ALPHA"], name="amy"))
    async with Client.connect(folder) as client:
        with pytest.raises(BadAnswerError):
            await client.call("vitals.assess", {"observation": "s3cr3t"}, timeout=1)
    await host.flush()
    assert sent == []
