"""The control plane on a real server: what is told to the server is what the server then does."""

import pytest
from control_harness import policy
from fixtures_control import LivePlatform

from runtime.bus.errors import RefusedError as ServerRefusedError

POLICY = policy(
    "st-marys",
    nurse="call: [vitals.*]",
    reader="subscribe: [vitals.alert]",
    admin='admin: ["policy.*", "credentials.*"]',
)


async def test_new_tenants_credential_connects_and_is_held_to_its_role(live: LivePlatform) -> None:
    operator = await live.operator()
    await operator.ask("tenants.create", "st-marys", {"policy": POLICY})

    nurse = await live.connect(await operator.issue("st-marys", "ann", "nurse"))

    with pytest.raises(ServerRefusedError):
        await nurse.connection.request("ai.admin.policy.show.st-marys", b"{}", timeout=5)
    admin = await live.connect(await operator.issue("st-marys", "bea", "admin"))
    assert (await admin.ask("policy.show", "st-marys"))["policy"] == POLICY
    with pytest.raises(ServerRefusedError):
        await admin.ask("policy.show", "platform")


async def test_state_survives_the_death_of_server_and_control_plane(live: LivePlatform) -> None:
    operator = await live.operator()
    created = await operator.ask("tenants.create", "st-marys", {"policy": POLICY})
    creds = await operator.issue("st-marys", "bea", "admin")
    await live.server.kill()
    await live.stop_plane()

    await live.start_server()
    await live.start_plane()

    admin = await live.connect(creds)
    assert (await admin.ask("policy.show", "st-marys"))["policy"] == POLICY
    assert (await (await live.operator()).ask("tenants.show", "st-marys"))["account"] == created["account"]
