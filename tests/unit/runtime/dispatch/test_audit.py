"""What is recorded of a request, and what happens when it can't be."""

import pytest
from dispatch_bench import NOW, Bench

from runtime.dispatch import AuditRecord


@pytest.fixture
async def bench() -> Bench:
    return Bench()


async def test_answered_call_is_recorded_before_its_answer(bench: Bench) -> None:
    order: list[str] = []
    respond, record = bench.respond, bench.record
    bench.dispatcher._answers._respond = lambda *a: (order.append("answer"), respond(*a))[1]
    bench.record = lambda r: (order.append("record"), record(r))[1]  # type: ignore[method-assign]
    answer = await bench.call()
    assert order == ["record", "answer"]
    assert bench.records == [
        AuditRecord(
            at=NOW,
            tenant="st-marys",
            account=bench.account.public.text,
            user=bench.user.public.text,
            name="nina",
            role="nurse",
            assurance="asserted",
            action="call",
            resource="vitals.assess",
            effect="allow",
            code=200,
            reason="granted",
            rule="line 4: nurse: call vitals.*",
            correlation_id=answer.body["correlation_id"],
            agent_id="vitals",
            epoch=7,
        )
    ]
    assert bench.records[0].as_dict()["effect"] == "allow"


async def test_denied_call_is_recorded_with_the_policys_reason(bench: Bench) -> None:
    await bench.call(header=bench.header(token=bench.token(signer=bench.clerk_key)))
    record = bench.records[0]
    assert (record.effect, record.code, record.reason, record.rule) == ("deny", 403, "no rule", None)
    assert (record.role, record.agent_id) == ("billing", None)


async def test_forger_is_recorded_with_the_reason_and_without_an_identity(bench: Bench) -> None:
    await bench.call(header=b"")
    record = bench.records[0]
    assert (record.effect, record.code, record.reason) == ("deny", 401, "header-missing")
    assert (record.user, record.name, record.role, record.assurance) == (None, None, None, None)
    assert record.tenant == "st-marys"


async def test_allowed_call_that_fails_is_recorded_as_an_error(bench: Bench) -> None:
    await bench.call(b"no json")
    record = bench.records[0]
    assert (record.effect, record.code, record.reason) == ("error", 400, "malformed")
    assert record.rule == "line 4: nurse: call vitals.*"


async def test_forgers_can_not_fill_the_audit_log() -> None:
    bench = Bench(unauthenticated_records_per_s=2)
    for _ in range(5):
        await bench.call(header=b"")
    assert len(bench.records) == 2
    assert bench.dispatcher.counters.unaudited == 3
    bench.time.move(1)
    await bench.call(header=b"")
    assert len(bench.records) == 3


async def test_what_was_refused_before_any_decision_is_only_counted() -> None:
    bench = Bench(rate_per_s=1, burst=1)
    await bench.call()
    await bench.call()
    assert [record.code for record in bench.records] == [200]
    assert bench.dispatcher.counters.unaudited == 1
    assert bench.dispatcher.counters.refused == {429: 1}


async def test_result_that_can_not_be_recorded_is_not_sent(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    def full(*_: object) -> None:
        raise BufferError

    bench.record = full  # type: ignore[method-assign]
    answer = await bench.call()
    assert answer.code == 500  # 503 would invite the caller to repeat what was carried out
    assert "result" not in answer.body
    assert bench.dispatcher.counters.answered == 0
    assert "audit record was not taken" in caplog.text


async def test_records_never_hold_payloads(bench: Bench) -> None:
    await bench.call(b'{"secret":"4711"}')
    await bench.call(b'{"secret":4711')
    assert "4711" not in str(bench.records)
    assert "secret" not in str(bench.records)
