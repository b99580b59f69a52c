"""SEC-3: arriving in the right inbox proves nothing. Who may publish there still has to guess a request's token."""

import asyncio

from fixtures_server import Realm

from runtime.bus.message import Message

GUESSES = 200


def guesses(seen: list[str]) -> list[str]:
    """What the next token may be, to who has seen the earlier ones: the same, a neighbour, a small number."""
    neighbours = [
        f"{int(token, 16) + step:0{len(token)}x}"
        for token in seen
        for step in range(-GUESSES, GUESSES)
        if is_hex(token)
    ]
    small = [form % number for number in range(GUESSES) for form in ("%d", "%x", "%032x", "%08x")]
    return [*seen, *neighbours, *small]


def is_hex(token: str) -> bool:
    return set(token) <= set("0123456789abcdef")


async def test_sec_3_who_has_answered_before_can_not_answer_what_another_was_asked(realm: Realm) -> None:
    """The attacker answered three calls, so it knows the caller's inbox and three tokens; and may publish anywhere."""
    alpha = realm.accounts["ALPHA"]
    victim, honest, attacker = [await realm.connect(realm.user(alpha)) for _ in range(3)]
    replies: list[str] = []
    asked = asyncio.Event()
    waiting: list[str] = []

    def learn(message: Message) -> None:
        replies.append(message.reply)
        attacker.respond(message.reply, b"harmless")

    def wait(message: Message) -> None:
        waiting.append(message.reply)
        asked.set()

    await attacker.subscribe("svc.theirs", learn)
    await honest.subscribe("svc.honest", wait)
    for _ in range(3):
        await victim.request("svc.theirs", b"", timeout=5)
    asking = asyncio.create_task(victim.request("svc.honest", b"", timeout=20))
    await asked.wait()
    prefix = replies[0].rpartition(".")[0]
    assert waiting[0].startswith(prefix)
    for token in guesses([reply.rpartition(".")[2] for reply in replies]):
        await attacker.publish(f"{prefix}.{token}", b"forged")
    await attacker.flush()
    honest.respond(waiting[0], b"honest")
    assert (await asking).data == b"honest"


async def test_sec_3_second_answer_to_a_request_is_not_taken_for_the_next_ones(realm: Realm) -> None:
    alpha = realm.accounts["ALPHA"]
    victim, attacker = await realm.connect(realm.user(alpha)), await realm.connect(realm.user(alpha))
    replies: list[str] = []

    def answer(message: Message) -> None:
        for reply in replies:  # to every request it ever saw, this one not included
            attacker.respond(reply, b"forged")
        replies.append(message.reply)
        attacker.respond(message.reply, b"%d" % len(replies))

    await attacker.subscribe("svc.x", answer)
    answers = [(await victim.request("svc.x", b"", timeout=5)).data for _ in range(5)]
    assert answers == [b"1", b"2", b"3", b"4", b"5"]
