"""SEC-1 at the dispatcher: who can't be established never reaches a handler, and what SEC-6 lets out."""

import json
from typing import Any

import pytest
from dispatch_bench import NOW, Answer, Bench, unscoped

from authz.keys import AccountSeed, UserSeed


@pytest.fixture
async def bench() -> Bench:
    return Bench()


def assert_unauthenticated(bench: Bench, answer: Answer) -> None:
    """401 with its fixed text and no handler invoked: nothing tells the caller what gave it away."""
    assert answer.code == 401
    assert answer.body["error"] == "not authenticated"
    assert set(answer.body) == {"agent_id", "error", "code", "correlation_id"}
    assert bench.served.reached == []


@pytest.mark.parametrize(
    "reply", ["", "_INBOX.x", "_R_", "_r_.x", "$JS.ACK.s.c.1.1.1.1.0", "ai.capabilities.vitals.assess", "x._R_.y"]
)
async def test_message_without_a_service_reply_is_dropped_and_counted(bench: Bench, reply: str) -> None:
    """SEC-1c: the reply-subject deputies; not even an error goes out, for that would be a deputy's answer again."""
    bench.send(reply=reply)
    await bench.settled()
    assert bench.answers == []
    assert bench.served.reached == []
    assert bench.records == []
    assert bench.dispatcher.counters.dropped == 1


@pytest.mark.parametrize(
    "subject",
    ["", "ai.capabilities.vitals.assess", "tenant.{a}.streams.x", "tenant.{other}.capabilities.vitals.assess"],
)
async def test_subject_that_this_dispatcher_did_not_subscribe_to_is_refused(bench: Bench, subject: str) -> None:
    other = AccountSeed.generate().public.text
    bench.send(subject=subject.format(a=bench.account.public.text, other=other) or "x")
    assert_unauthenticated(bench, bench.answers[-1])


async def test_request_without_a_header_is_refused(bench: Bench) -> None:
    assert_unauthenticated(bench, await bench.call(header=b""))


def forged_blocks(bench: Bench, attacker: str) -> dict[str, bytes]:
    """What a client can do to the header block: the server appends its own, true line to whatever it finds."""
    forged = b"Nats-Request-Info: " + bench.info()
    true = b"Nats-Request-Info: " + bench.info(token=attacker) + b"\r\n\r\n"
    return {
        "a line of its own before the server's": b"NATS/1.0\r\n" + forged + b"\r\n" + true,
        "an unterminated block hides the server's line": b"NATS/1.0\r\n" + forged + b"\r\nX: " + true,
        "an unterminated block without a line": b"NATS/1.0\r\nX: y" + true,
        "a block that ends before the server's line": b"NATS/1.0\r\n" + forged + b"\r\n\r\n" + true,
        "odd case": b"NATS/1.0\r\n" + forged.lower() + b"\r\n" + true,
        "a space before the colon": b"NATS/1.0\r\nNats-Request-Info : " + bench.info() + b"\r\n" + true,
        "the doubled name": b"NATS/1.0\r\nX: Nats-Request-Info" + true,
        "only its own, in odd case": b"NATS/1.0\r\nnats-request-info: " + bench.info() + b"\r\n\r\n",
        "no space after the colon": b"NATS/1.0\r\nNats-Request-Info:" + bench.info() + b"\r\n\r\n",
        "an inline status": b"NATS/1.0 100 \xff\r\n" + true,
        "no version": forged + b"\r\n\r\n",
        "bare newlines": b"NATS/1.0\n" + forged + b"\n\n",
        "a null in the name": b"NATS/1.0\r\nNats-Request\x00-Info: x\r\n" + forged.replace(b"{", b"", 1) + b"\r\n\r\n",
        "more than 16 KiB": b"NATS/1.0\r\nX: " + b"y" * 16_400 + b"\r\n" + true,
    }


FORGERIES = list(forged_blocks(Bench(), "x"))


@pytest.mark.parametrize("forgery", FORGERIES)
async def test_forged_header_block_is_refused(bench: Bench, forgery: str) -> None:
    """SEC-1a: identity comes from the raw block, and any doubt about it is a refusal."""
    attacker = bench.token(signer=bench.clerk_key)
    assert_unauthenticated(bench, await bench.call(header=forged_blocks(bench, attacker)[forgery]))


async def test_callers_own_headers_do_not_disturb(bench: Bench) -> None:
    header = bench.header(before=b"Traceparent: 00-1\r\nX:y\r\n")
    assert (await bench.call(header=header)).code == 200


def stranger() -> str:
    return AccountSeed.generate().public.text


def bad_tokens(bench: Bench) -> dict[str, dict[str, Any]]:
    """What the server's line may say, each with one thing wrong."""
    other = AccountSeed.generate()
    good = bench.token()
    head, body, signature = good.split(".")
    return {
        "another account in the line": {"acc": other.public.text},
        "a token of another account": {"token": bench.token(signer=other, issuer_account=None)},
        "a token that only claims the account": {"token": bench.token(signer=other)},
        "a stale role key": {"token": bench.token(signer=AccountSeed.generate())},
        "the account's own key": {"token": bench.token(signer=bench.account, issuer_account=None)},
        "an unscoped, wide credential": {"token": bench.token(permissions=unscoped())},
        "an expired token": {"token": bench.token(expires_at=NOW)},
        "a token not valid yet": {"token": bench.token(not_before=NOW + 10)},
        "a changed body": {"token": f"{head}.{body[:-2]}AA.{signature}"},
        "a changed signature": {"token": f"{head}.{body}.{signature[:-4]}AAAA"},
        "no token": {"jwt": ""},
        "a cut token": {"token": good[:-20]},
        "a service in between": {"svc": other.public.text},
        "a leaf node": {"kind": "Leafnode"},
        "another kind": {"kind": "Router"},
        "no kind": {"kind": None},
        "a number for a token": {"jwt": 7},
    }


BAD_TOKENS = list(bad_tokens(Bench()))


@pytest.mark.parametrize("fault", BAD_TOKENS)
async def test_identity_with_one_fault_is_refused(bench: Bench, fault: str) -> None:
    """SEC-1b: the principal comes from the embedded token only, and every one of its conditions counts."""
    assert_unauthenticated(bench, await bench.call(header=bench.header(**bad_tokens(bench)[fault])))


async def test_fields_that_a_client_chooses_are_never_used(bench: Bench) -> None:
    header = bench.header(user="admin", name="admin", tags=["role:admin"], nkey="U", issuer_key=stranger())
    assert (await bench.call(header=header)).code == 200
    principal = bench.served.reached[0].principal
    assert (principal.name, principal.role, principal.tags) == ("nina", "nurse", ())


async def test_cached_principal_is_judged_anew_at_every_use(bench: Bench) -> None:
    """SEC-1b: the cache holds a verified signature, never a verdict."""
    header = bench.header()
    assert (await bench.call(header=header)).code == 200
    roles = dict(bench.trust.roles)
    del roles[bench.role_key.public.text]
    bench.trusting(roles=roles)
    assert (await bench.call(header=header)).code == 401
    bench.trusting(roles=roles | {bench.role_key.public.text: "billing"})
    assert (await bench.call(header=header)).code == 403
    bench.trusting(roles=roles | {bench.role_key.public.text: "nurse"}, revocations={"*": NOW - 60})
    assert (await bench.call(header=header)).code == 401
    bench.trusting(revocations={UserSeed.generate().public.text: NOW})
    assert (await bench.call(header=header)).code == 200
    bench.time.move(3600)
    assert (await bench.call(header=header)).code == 401


async def test_agent_id_in_the_envelope_is_never_identity(bench: Bench) -> None:
    body = {
        "version": "1.0",
        "agent_id": "admin",
        "message_type": "request",
        "timestamp": NOW,
        "correlation_id": "7d0f1a52-6c1b-4a44-9d0e-0f4e5f6a7b8c",
        "data": {},
    }
    clerk = bench.header(token=bench.token(signer=bench.clerk_key))
    assert (await bench.call(json.dumps(body).encode(), header=clerk)).code == 403


async def test_answers_never_carry_a_header_of_the_request(bench: Bench) -> None:
    """SEC-6: no headers on a result, two on a failure, whatever came in and whatever the handler made of it."""
    before = b"Nats-Service-Error: x\r\nEvil: y\r\n"
    result = await bench.call(header=bench.header(before=before))
    failure = await bench.call(b"no json", header=bench.header(before=before))
    assert result.headers is None
    assert failure.headers is not None
    assert set(failure.headers) == {"Nats-Service-Error-Code", "Nats-Service-Error"}
    assert failure.headers["Nats-Service-Error"] == failure.body["error"]
