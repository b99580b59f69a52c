"""SEC-6: what a reply by the NATS library gives away on a real server, and that code which replies so is not let in."""

import base64
import subprocess
import sys
from pathlib import Path

import nats
import pytest
from fixtures_server import RawClient, Realm
from nats.aio.msg import Msg

from scripts.check_replies import faults

ROOT = Path(__file__).parents[2]
FORGED = b'NATS/1.0\r\nNats-Request-Info: {"acc":"forged"}\r\n\r\n'


async def test_the_library_echoes_a_forged_identity_to_wherever_the_asker_says(realm: Realm) -> None:
    """Why the ban: if this fails, the library has stopped echoing."""
    creds = realm.user(realm.accounts["ALPHA"])
    library = await nats.connect(
        realm.server.url,
        tls=realm.endpoint().tls,
        tls_handshake_first=True,
        user_jwt_cb=creds.jwt.encode,
        signature_cb=lambda nonce: base64.b64encode(creds.seed.sign(nonce.encode())),
    )

    async def careless(message: Msg) -> None:
        await message.respond(b"x")

    await library.subscribe("svc.x", cb=careless)
    await library.flush()
    attacker: RawClient = await realm.raw(realm.user(realm.accounts["ALPHA"]))
    attacker.send(b"SUB elsewhere 1\r\n")
    await attacker.round_trip()
    attacker.hpub(b"svc.x", b"elsewhere", FORGED)
    said = await attacker.until(b'Nats-Request-Info: {"acc":"forged"}')
    assert b"HMSG elsewhere" in said
    await library.close()


async def test_our_answer_to_the_same_message_carries_nothing_of_it(realm: Realm) -> None:
    ours = await realm.connect(realm.user(realm.accounts["ALPHA"]))
    await ours.subscribe("svc.x", lambda message: ours.respond(message.reply, b"x"))
    attacker = await realm.raw(realm.user(realm.accounts["ALPHA"]))
    attacker.send(b"SUB elsewhere 1\r\n")
    await attacker.round_trip()
    attacker.hpub(b"svc.x", b"elsewhere", FORGED)
    said = await attacker.until(b"MSG elsewhere")
    assert b"HMSG" not in said


LIBRARY = "from nats.aio.msg import Msg\n\nasync def handle(msg: Msg) -> None:\n    "
ELSEWHERE = "async def handle(message):\n    "


@pytest.mark.parametrize(
    "source",
    [
        LIBRARY + 'await msg.respond(b"x")\n',
        LIBRARY + 'await Msg.respond(msg, b"x")\n',
        LIBRARY + "answer = msg.respond\n",
        'import nats.aio.msg\n\nasync def handle(m: "nats.aio.msg.Msg") -> None:\n    await m.respond(data=b"x")\n',
        ELSEWHERE + 'await message.respond(b"x")\n',
        ELSEWHERE + 'await message.respond(data=b"x")\n',
        ELSEWHERE + "await message.respond()\n",
    ],
)
def test_code_that_replies_by_the_library_fails_the_lint(source: str) -> None:
    assert list(faults(source))


@pytest.mark.parametrize(
    "source",
    [
        ELSEWHERE + 'host.respond(message.reply, b"x")\n',
        ELSEWHERE + 'host.respond(message.reply, b"x", headers={})\n',
        ELSEWHERE + "host.respond(*answer)\n",
        ELSEWHERE + "answer = host.respond\n",
    ],
)
def test_our_own_reply_passes_the_lint(source: str) -> None:
    assert list(faults(source)) == []


def test_ruff_refuses_the_librarys_reply_where_it_is_named(tmp_path: Path) -> None:
    (tmp_path / "careless.py").write_text(LIBRARY + 'await Msg.respond(msg, b"x")\n')
    found = lint("-m", "ruff", "check", "--no-cache", "--config", str(ROOT / "pyproject.toml"), str(tmp_path))
    assert found.returncode == 1
    assert "nats.aio.msg.Msg.respond` is banned: SEC-6" in found.stdout


def test_make_lint_runs_the_check_and_the_project_passes_it() -> None:
    assert "scripts/check_replies.py" in (ROOT / "Makefile").read_text()
    assert lint("scripts/check_replies.py").returncode == 0


def lint(*arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
