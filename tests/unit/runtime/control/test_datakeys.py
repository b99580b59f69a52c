"""SEC-11, SEC-12: who gets which data key, and that nobody else does."""

import asyncio
import base64
import hashlib
import json
import time
from typing import Any

import pytest
from control_harness import Caller, Process, RefusedError, Site, policy
from signed_requests import signed_request

from runtime.control.records import ScopeRecord, decode
from runtime.envelope.errors import KeyWrapError
from runtime.envelope.keyid import KeyId, KeyScope, parse
from runtime.envelope.keywrap import OneTimeKey, UnwrapCall, UnwrappedKey, open_unwrap_answer
from runtime.envelope.unwrap import UnwrapAnswer

POLICY = (
    policy("st-marys", nurse="{call: [vitals.*], data: [phi]}", clerk="call: [invoice.*]", admin="admin: [keys.*]")
    + "agents:\n  vitals: {data: [phi]}\n  hello: {publish: [x.y]}\n"
)


class Ward:
    """A tenant with a nurse who holds `phi`, a clerk who doesn't, and the neighbour's nurse."""

    def __init__(self, process: Process, operator: Caller) -> None:
        self.process, self.operator = process, operator

    async def open(self) -> "Ward":
        await self.process.ask(self.operator, "tenants.create", "st-marys", {"policy": POLICY})
        await self.process.ask(
            self.operator, "tenants.create", "lakeside", {"policy": POLICY.replace("st-marys", "lakeside")}
        )
        issue = self.process.issue
        self.nurse = await issue(self.operator, "st-marys", "amy", "nurse")
        self.clerk = await issue(self.operator, "st-marys", "carl", "clerk")
        self.admin = await issue(self.operator, "st-marys", "ann", "admin")
        self.neighbour = await issue(self.operator, "lakeside", "lena", "nurse")
        return self

    async def unwrap(
        self,
        caller: Caller,
        wanted: KeyId | KeyScope,
        *,
        tenant: str = "st-marys",
        command: str = "keys.unwrap",
        **more: Any,
    ) -> UnwrappedKey:
        """Ask as a client does, and open the answer."""
        one_time = OneTimeKey.generate()
        named: dict[str, Any] = (
            {"key_id": str(wanted)} if isinstance(wanted, KeyId) else {"label": wanted.label, "subject": wanted.subject}
        )
        call_id = "11111111-2222-4333-8444-" + f"{time.monotonic_ns() % 10**12:012d}"
        data = {**named, "one_time_key": one_time.public, **more}
        body, headers = signed_request(caller.seed, caller.account, command, tenant, data, correlation_id=call_id)
        answer = await self.process.ask_signed(caller, command, tenant, body, headers)
        return open_unwrap_answer(
            UnwrapAnswer(**answer),
            UnwrapCall(tenant=tenant, account=caller.account, user=caller.user, correlation_id=call_id),
            wanted=wanted,
            one_time_key=one_time,
            now=time.time(),
            verify=self.process.site.platform.control.public.verify,
        )


@pytest.fixture
async def ward(process: Process, operator: Caller) -> Ward:
    return await Ward(process, operator).open()


PHI = KeyScope("phi")


async def test_first_to_ask_gets_version_one_and_everybody_entitled_the_same_key(ward: Ward) -> None:
    mine = await ward.unwrap(ward.nurse, PHI)
    again = await ward.unwrap(ward.nurse, parse("phi@1"))
    assert str(mine.dek.key_id) == "phi@1"
    assert (mine.dek, mine.state) == (again.dek, "active")


async def test_two_who_ask_at_once_get_one_key(ward: Ward) -> None:
    first, second = await asyncio.gather(ward.unwrap(ward.nurse, PHI), ward.unwrap(ward.nurse, PHI))
    assert first.dek == second.dek


async def test_role_without_the_label_gets_no_key(ward: Ward) -> None:
    await ward.unwrap(ward.nurse, PHI)
    for wanted in (PHI, parse("phi@1"), KeyScope("phi", "patient/4711")):
        with pytest.raises(RefusedError) as refused:
            await ward.unwrap(ward.clerk, wanted)
        assert (refused.value.code, refused.value.failure.required) == (403, "data:phi")


async def test_refused_key_is_never_on_record_as_allowed(ward: Ward, site: Site) -> None:
    with pytest.raises(RefusedError):
        await ward.unwrap(ward.clerk, PHI)
    await ward.unwrap(ward.nurse, PHI)
    await site.close()
    records = [json.loads(data)["record"] for _, data in await site.storage.audit.read(1, 1000)]
    unwraps = [(r["name"], r["effect"]) for r in records if r["resource"] == "keys.unwrap"]
    assert sorted(unwraps) == [("amy", "allow"), ("carl", "deny")]


async def test_administrator_and_operator_without_the_label_get_no_key(ward: Ward) -> None:
    for caller in (ward.admin, ward.operator):
        with pytest.raises(RefusedError) as refused:
            await ward.unwrap(caller, PHI)
        assert refused.value.code == 403


async def test_neighbour_gets_a_key_of_its_own_and_never_this_tenants(ward: Ward) -> None:
    mine = await ward.unwrap(ward.nurse, PHI)
    theirs = await ward.unwrap(ward.neighbour, PHI, tenant="lakeside")
    assert mine.dek != theirs.dek
    with pytest.raises(RefusedError) as refused:
        await ward.unwrap(ward.neighbour, PHI)
    assert refused.value.code == 403


async def test_keys_of_data_subjects_are_keys_of_their_own(ward: Ward) -> None:
    keys = [(await ward.unwrap(ward.nurse, KeyScope("phi", s))).dek.reveal() for s in (None, "patient/1", "patient/2")]
    assert len(set(keys)) == 3


async def test_rotation_makes_a_new_version_and_the_old_one_still_opens(ward: Ward) -> None:
    old = await ward.unwrap(ward.nurse, PHI)
    rotated = await ward.process.ask(ward.admin, "keys.rotate", "st-marys", {"label": "phi"})
    new = await ward.unwrap(ward.nurse, PHI)
    opening = await ward.unwrap(ward.nurse, parse("phi@1"))
    assert [(v["version"], v["state"]) for v in rotated["versions"]] == [(1, "opening"), (2, "active")]
    assert (str(new.dek.key_id), opening.dek, opening.state) == ("phi@2", old.dek, "opening")
    assert new.dek.reveal() != old.dek.reveal()


async def test_list_names_keys_and_never_shows_them(ward: Ward) -> None:
    key = await ward.unwrap(ward.nurse, KeyScope("phi", "patient/1"))
    listed = await ward.process.ask(ward.admin, "keys.list", "st-marys")
    assert [(k["label"], k["subject"]) for k in listed["keys"]] == [("phi", "patient/1")]
    assert set(listed["keys"][0]["versions"][0]) == {"version", "state", "created_at"}
    assert key.dek.reveal().hex() not in str(listed)


async def test_versions_that_never_were_are_not_found(ward: Ward) -> None:
    for wanted in ("phi@1", "phi@7", "phi/patient/1@1"):
        with pytest.raises(RefusedError) as refused:
            await ward.unwrap(ward.nurse, parse(wanted))
        assert refused.value.code == 404


async def test_host_gets_keys_for_agents_that_are_deployed_and_hold_the_label(ward: Ward, host: Caller) -> None:
    with pytest.raises(RefusedError) as not_deployed:
        await ward.unwrap(host, PHI, command="hosts.unwrap", agent="vitals")
    await deploy(ward, "vitals")
    await deploy(ward, "hello")
    mine = await ward.unwrap(ward.nurse, PHI)
    theirs = await ward.unwrap(host, PHI, command="hosts.unwrap", agent="vitals")
    with pytest.raises(RefusedError) as no_label:
        await ward.unwrap(host, PHI, command="hosts.unwrap", agent="hello")
    with pytest.raises(RefusedError) as no_agent:
        await ward.unwrap(host, PHI, command="hosts.unwrap")
    assert theirs.dek == mine.dek
    codes = (not_deployed.value.code, no_label.value.code, no_agent.value.code)
    assert codes == (403, 403, 422)


async def test_nobody_but_a_host_asks_for_an_agent(ward: Ward) -> None:
    await deploy(ward, "vitals")
    with pytest.raises(RefusedError) as posing:
        await ward.unwrap(ward.clerk, PHI, agent="vitals")
    with pytest.raises(RefusedError) as reaching:
        await ward.unwrap(ward.nurse, PHI, command="hosts.unwrap", agent="vitals")
    assert (posing.value.code, reaching.value.code) == (422, 403)
    with pytest.raises(RefusedError) as operating:
        await ward.unwrap(ward.operator, PHI, command="hosts.unwrap", agent="vitals")
    assert (operating.value.code, operating.value.failure.role) == (403, "operator")


async def test_answer_to_one_caller_is_nothing_to_another(ward: Ward) -> None:
    one_time = OneTimeKey.generate()
    call_id = "11111111-2222-4333-8444-555555555555"
    data = {"label": "phi", "subject": None, "one_time_key": one_time.public}
    body, headers = signed_request(
        ward.nurse.seed, ward.nurse.account, "keys.unwrap", "st-marys", data, correlation_id=call_id
    )
    answer = UnwrapAnswer(**await ward.process.ask_signed(ward.nurse, "keys.unwrap", "st-marys", body, headers))
    for changed in ({"user": ward.clerk.user}, {"correlation_id": "x"}, {"account": ward.neighbour.account}):
        call = {"tenant": "st-marys", "account": ward.nurse.account, "user": ward.nurse.user, "correlation_id": call_id}
        with pytest.raises(KeyWrapError):
            open_unwrap_answer(
                answer,
                UnwrapCall(**{**call, **changed}),
                wanted=PHI,
                one_time_key=one_time,
                now=time.time(),
                verify=ward.process.site.platform.control.public.verify,
            )


@pytest.mark.parametrize("key", ["", "A" * 42, "A" * 43, "A" * 44, "not base64url at all, but forty-three chars"])
async def test_one_time_key_that_is_none_is_refused(ward: Ward, key: str) -> None:
    with pytest.raises(RefusedError) as refused:
        await ward.process.ask(
            ward.nurse, "keys.unwrap", "st-marys", {"label": "phi", "subject": None, "one_time_key": key}
        )
    assert refused.value.code == 422


@pytest.mark.parametrize("label", ["PHI", "phi/x", "", "p.h", "phi@1", "x" * 64])
async def test_label_that_can_not_be_is_refused(ward: Ward, label: str) -> None:
    with pytest.raises(RefusedError) as refused:
        await ward.process.ask(ward.admin, "keys.rotate", "st-marys", {"label": label})
    assert refused.value.code == 422


async def test_stored_keys_are_wrapped_and_survive_a_restart(ward: Ward, site: Site) -> None:
    key = await ward.unwrap(ward.nurse, PHI)
    stored = await site.storage.datakeys.all()
    record = decode(ScopeRecord, "datakeys", next(iter(stored.values())).value)
    assert key.dek.reveal() not in record.versions[0].wrapped.encode()
    ward.process = await site.start()
    assert (await ward.unwrap(ward.nurse, parse("phi@1"))).dek == key.dek


async def test_deleted_tenants_keys_are_gone_and_its_successors_are_others(ward: Ward, site: Site) -> None:
    before = await ward.unwrap(ward.nurse, PHI)
    await ward.process.ask(ward.operator, "tenants.delete", "st-marys")
    assert "kek/st-marys" not in site.keys.names()
    assert len(await site.storage.datakeys.all()) == 0
    await ward.process.ask(ward.operator, "tenants.create", "st-marys", {"policy": POLICY})
    heir = await ward.process.issue(ward.operator, "st-marys", "amy", "nurse")
    assert (await ward.unwrap(heir, PHI)).dek.reveal() != before.dek.reveal()


async def deploy(ward: Ward, agent: str) -> None:
    """Put a deployment on record; no host is there to run it."""
    code = agent.encode()
    digest = hashlib.sha256(code).hexdigest()
    piece = {"digest": digest, "offset": 0, "size": len(code), "data": base64.b64encode(code).decode()}
    await ward.process.ask(ward.operator, "agents.upload", "st-marys", piece)
    data = {"digest": digest, "entry": "agent:Agent", "agent": agent}
    await ward.process.ask(ward.operator, "agents.deploy", "st-marys", data)
