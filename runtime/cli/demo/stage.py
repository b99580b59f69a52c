"""What the demo plays on: a platform in a temporary folder, two hospitals, their policies, agents and people."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from authz.creds import Creds
from runtime.cli.agentsource import find_agent
from runtime.client import Client
from runtime.client.deploying import deploy_snapshot
from runtime.client.folder import CredentialsFolder, read_folder
from runtime.client.folderfiles import write_folder
from runtime.client.issuing import issue_folder
from runtime.wiring.examples import find_examples
from runtime.wiring.platform import Platform
from runtime.wiring.platform_folder import PlatformFolder

ASSESS = "ai.capabilities.vitals.assess"

POLICIES = {
    "st-marys": """\
tenant: st-marys
roles:
  nurse:
    call: [vitals.*, greeting, echo]
    subscribe: [vitals.alert]
    data: [phi]
  porter:
    call: [vitals.*]
  billing:
    call: [invoice.*]
  auditor:
    call: [greeting]
agents:
  vitals:
    publish: [vitals.alert]
    data: [phi]
""",
    "lakeside": """\
tenant: lakeside
roles:
  nurse:
    call: [vitals.*, greeting]
    data: [phi]
agents:
  vitals:
    data: [phi]
""",
}
DEPLOYMENTS = (("st-marys", "healthcare"), ("lakeside", "healthcare"), ("st-marys", "hello"))
PEOPLE = (
    ("st-marys", "alice", "nurse"),
    ("st-marys", "colin", "billing"),
    ("st-marys", "audrey", "auditor"),
    ("st-marys", "pete", "porter"),
    ("lakeside", "lena", "nurse"),
)


@dataclass(kw_only=True, slots=True)
class Stage:
    """The running platform, and everybody's credentials folder by name."""

    platform: Platform
    folder: PlatformFolder
    root: Path
    operator: Client
    folders: dict[str, CredentialsFolder] = field(default_factory=dict)
    accounts: dict[str, str] = field(default_factory=dict)

    @property
    def observation(self) -> dict[str, Any]:
        """The observations of a deteriorating patient."""
        text = (find_examples() / "healthcare" / "deteriorating.json").read_text(encoding="utf-8")
        data: dict[str, Any] = json.loads(text)
        return data

    def client(self, person: str) -> Client:
        """A client with that person's credentials, not yet connected."""
        return Client.connect(self.folders[person].path)

    def creds(self, person: str) -> Creds:
        """That person's JWT and seed."""
        return self.folders[person].load_creds()


async def set_stage(platform: Platform, folder: PlatformFolder, operator: Client, root: Path) -> Stage:
    """Create tenants, apply policies, deploy agents, issue credentials: what an operator does by commands."""
    stage = Stage(platform=platform, folder=folder, root=root, operator=operator)
    for tenant, policy in POLICIES.items():
        created = await operator.admin("tenants.create", tenant)
        stage.accounts[tenant] = str(created["account"])
        await operator.admin("policy.apply", tenant, {"policy": policy})
    for tenant, example in DEPLOYMENTS:
        found = find_agent(str(find_examples() / example), working_folder=root)
        await deploy_snapshot(operator, tenant=tenant, agent=found.agent, entry=found.entry, snapshot=found.snapshot)
    for tenant, name, role in PEOPLE:
        issued = await issue_folder(operator, tenant=tenant, name=name, role=role, ttl_s=3600)
        write_folder(root / name, issued.contents)
        stage.folders[name] = read_folder(root / name)
    return stage


def score_line(result: Mapping[str, Any]) -> str:
    """An assessment in few words."""
    return f"NEWS2 {result['total']}, {result['risk']} risk"
