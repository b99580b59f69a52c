"""SEC-11, SEC-12: the example for callers in other languages refuses what it tells its readers to refuse."""

import asyncio
import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from client_folders import write_client_folder
from fixtures_server import Realm
from sealed_counterparts import CAPABILITY, SECRET, ToyControl, ToyHost, key, sealed_counterparts

from authz.keys import AccountSeed
from runtime.bus.message import Message
from runtime.envelope.datakey import DataKey
from runtime.envelope.keyid import KeyScope
from runtime.envelope.sealedmessages import SealedRequest

SCRIPT = Path(__file__).parents[2] / "examples/healthcare/plain_client.py"
DATA = json.dumps({"observation": SECRET})


@pytest.fixture
async def both(realm: Realm) -> tuple[ToyControl, ToyHost]:
    return await sealed_counterparts(realm)


@pytest.fixture
def folder(realm: Realm, both: tuple[ToyControl, ToyHost], tmp_path: Path) -> Path:
    creds = realm.user(realm.accounts["ALPHA"], name="amy")
    folder = write_client_folder(realm, tmp_path / "amy", creds, control=both[0].seed.public.text)
    context = json.loads((folder / "context.json").read_text())
    context["inbox_prefix"] = f"_INBOX.{creds.seed.public}"
    (folder / "context.json").write_text(json.dumps(context))
    return folder


async def run(folder: Path) -> tuple[int, str, str]:
    command = (SCRIPT, folder, "phi/patient/4711", CAPABILITY, DATA)
    process = await asyncio.create_subprocess_exec(
        sys.executable, *map(str, command), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    out, err = await process.communicate()
    return process.returncode or 0, out.decode(), err.decode()


async def test_what_is_true_is_taken(both: tuple[ToyControl, ToyHost], folder: Path) -> None:
    code, out, err = await run(folder)
    assert (code, json.loads(out or "{}")) == (0, {"risk": "high", "why": SECRET}), err
    assert both[1].opened == [{"observation": SECRET}]


async def test_an_answer_under_a_newer_version_of_the_key_is_taken(
    both: tuple[ToyControl, ToyHost], folder: Path
) -> None:
    control, host = both

    def rotated(host: ToyHost, message: Message, request: SealedRequest) -> None:
        control.rotate(request.key_id.scope)
        host.connection.respond(message.reply, host.sealed(request))

    host.behave = rotated
    code, _, err = await run(folder)
    assert code == 0, err
    assert [str(wanted.wanted) for wanted, _ in control.asked] == ["phi/patient/4711", "phi/patient/4711@2"]


def sign_by_another(control: ToyControl, _: ToyHost) -> None:
    control.signer = AccountSeed.generate()


def answer_of_another_key(control: ToyControl, _: ToyHost) -> None:
    control.other_wanted = lambda _: key("phi@1")


def replay_the_first_answer(control: ToyControl, _: ToyHost) -> None:
    control.other_call = lambda call: type(call)(
        tenant=call.tenant,
        account=call.account,
        user=call.user,
        correlation_id="00000000-0000-4000-8000-000000000000",
    )


ON_KEYS = [sign_by_another, answer_of_another_key, replay_the_first_answer]


@pytest.mark.parametrize("attack", ON_KEYS, ids=lambda attack: attack.__name__)
async def test_sec_11_a_key_that_is_not_the_control_planes_for_this_request_seals_nothing(
    both: tuple[ToyControl, ToyHost], folder: Path, attack: Callable[[ToyControl, ToyHost], None]
) -> None:
    attack(*both)
    code, out, err = await run(folder)
    assert (code, out, "Traceback" in err) == (1, "", False), err
    assert both[1].seen == []


def in_the_clear(_: ToyControl, host: ToyHost) -> None:
    host.behave = lambda h, m, r: h.connection.respond(m.reply, h.plain(r))


def under_another_patients_key(_: ToyControl, host: ToyHost) -> None:
    other = host.control.dek(KeyScope("phi", "patient/1"))
    host.behave = lambda h, m, r: h.connection.respond(m.reply, h.sealed(r, dek=other))


def under_a_strangers_key(_: ToyControl, host: ToyHost) -> None:
    host.behave = lambda h, m, r: h.connection.respond(m.reply, h.sealed(r, dek=DataKey.generate(r.key_id)))


def of_another_capability(_: ToyControl, host: ToyHost) -> None:
    host.behave = lambda h, m, r: h.connection.respond(m.reply, h.sealed(r, capability="vitals.forecast"))


ON_ANSWERS = [in_the_clear, under_another_patients_key, under_a_strangers_key, of_another_capability]


@pytest.mark.parametrize("attack", ON_ANSWERS, ids=lambda attack: attack.__name__)
async def test_sec_12_an_answer_that_is_not_sealed_for_this_call_is_not_shown(
    both: tuple[ToyControl, ToyHost], folder: Path, attack: Callable[[ToyControl, ToyHost], None]
) -> None:
    attack(*both)
    code, out, err = await run(folder)
    assert (code, out, "Traceback" in err, SECRET in err) == (1, "", False, False), err
    assert len(both[1].seen) == 1
