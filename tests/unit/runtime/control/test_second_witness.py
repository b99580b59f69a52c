"""SEC-11: what changes something needs the caller's own signature over that very request, just now, once."""

import dataclasses
import time

import pytest
from control_harness import Caller, Process, header_block
from signed_requests import signed_request

from authz.keys import UserSeed
from runtime.envelope.messages import Failure, Result


def subject(caller: Caller, command: str, target: str) -> str:
    return f"tenant.{caller.account}.admin.{command}.{target}"


async def send(
    process: Process, caller: Caller, body: bytes, headers: dict[str, str], target: str = "acme"
) -> Result | Failure:
    return await process.ask_raw(subject(caller, "tenants.create", target), body, header_block(caller, headers))


def refused(answer: Result | Failure, code: int = 401) -> bool:
    return isinstance(answer, Failure) and answer.code == code


async def test_change_without_a_signature_is_refused(process: Process, operator: Caller) -> None:
    body, _ = signed_request(operator.seed, operator.account, "tenants.create", "acme")
    answer = await send(process, operator, body, {})
    assert refused(answer)
    assert isinstance(answer, Failure)
    assert answer.required == "signed"
    assert process.plane.state.tenant("acme") is None


async def test_bare_data_can_not_change_anything(process: Process, operator: Caller) -> None:
    _, headers = signed_request(operator.seed, operator.account, "tenants.create", "acme")
    assert refused(await send(process, operator, b"{}", headers))


async def test_signature_by_another_key_is_refused(process: Process, operator: Caller) -> None:
    other = UserSeed.generate()
    body, headers = signed_request(other, operator.account, "tenants.create", "acme")
    assert refused(await send(process, operator, body, headers))
    # the same, claiming to be the operator
    forged = {name: value.replace(other.public.text, operator.user) for name, value in headers.items()}
    assert refused(await send(process, operator, body, forged))


async def test_signature_for_another_target_command_payload_or_account_is_refused(
    process: Process, operator: Caller
) -> None:
    sign = operator.seed
    elsewhere = signed_request(sign, operator.account, "tenants.create", "other")
    otherwise = signed_request(sign, operator.account, "tenants.delete", "acme")
    as_tenant = signed_request(sign, UserSeed.generate().public.text, "tenants.create", "acme")
    body, headers = signed_request(sign, operator.account, "tenants.create", "acme")
    changed = (body.replace(b'"tests"', b'"tests2"'), headers)
    for payload, lines in (elsewhere, otherwise, as_tenant, changed):
        assert refused(await send(process, operator, payload, lines))
    assert process.plane.state.tenant("acme") is None


@pytest.mark.parametrize("away", [-60.0, 60.0])
async def test_signature_a_minute_off_is_refused(process: Process, operator: Caller, away: float) -> None:
    body, headers = signed_request(operator.seed, operator.account, "tenants.create", "acme", at=time.time() + away)
    assert refused(await send(process, operator, body, headers))


async def test_signed_request_is_carried_out_once(process: Process, operator: Caller) -> None:
    body, headers = signed_request(operator.seed, operator.account, "tenants.create", "acme")
    first = await send(process, operator, body, headers)
    again = await send(process, operator, body, headers)
    assert isinstance(first, Result)
    assert refused(again, 409)


async def test_signature_that_is_there_is_checked_even_where_none_is_needed(process: Process, operator: Caller) -> None:
    body, headers = signed_request(UserSeed.generate(), operator.account, "tenants.list", "all")
    answer = await process.ask_raw(subject(operator, "tenants.list", "all"), body, header_block(operator, headers))
    assert refused(answer)
    plain = await process.ask_raw(subject(operator, "tenants.list", "all"), b"{}", header_block(operator))
    assert isinstance(plain, Result)


async def test_two_signatures_are_none(process: Process, operator: Caller) -> None:
    body, headers = signed_request(operator.seed, operator.account, "tenants.create", "acme")
    block = header_block(operator, headers)
    line = next(part for part in block.split(b"\r\n") if part.startswith(b"Agent-Sender"))
    doubled = block.replace(line, line + b"\r\n" + line)
    answer = await process.ask_raw(subject(operator, "tenants.create", "acme"), body, doubled)
    assert refused(answer)


async def test_ones_own_signature_on_anothers_connection_is_refused(process: Process, operator: Caller) -> None:
    """The two witnesses must agree: a stolen signature is worth nothing without the connection, and the reverse."""
    colleague = await process.platform_caller("operator", "second")
    body, headers = signed_request(operator.seed, operator.account, "tenants.create", "acme")
    assert refused(await send(process, colleague, body, headers))
    posing = dataclasses.replace(colleague, seed=operator.seed)
    assert refused(await send(process, posing, body, headers))


async def test_record_says_that_it_was_signed(process: Process, operator: Caller) -> None:
    await process.ask(operator, "tenants.create", "acme")
    records = await process.site.storage.audit.read(1, 100)
    assert any(b'"tenants.create"' in data and b'"assurance":"signed"' in data for _, data in records)
