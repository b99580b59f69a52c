"""Reads a policy file: text in, a `Policy` out, or every fault in it at once, each with its line.

    tenant: st-marys
    roles:
      nurse:
        call: [vitals.*]
        deny: {call: [vitals.purge]}
      ward-monitor:
        inherits: [nurse]
        publish: [vitals.reading]
    agents:
      vitals:
        publish: [vitals.alert]

A file is accepted whole or not at all. Unknown and duplicate keys, empty roles and lists, names and patterns
that are not of their grammar, unknown parents and cycles are faults (P7). Whether a valid policy is a wise one
is `authz.lint`'s question.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import MappingProxyType

from authz.errors import AuthzError
from authz.inheritance import inheritance_faults
from authz.names import PLATFORM_TENANT, NameFormatError, agent_name, role_name, tenant_name
from authz.patterns import PatternFormatError, check_pattern
from authz.policy import ACTIONS, AGENT_PREFIX, Action, Effect, Grant, Parent, Policy, Role
from authz.quoting import quoted
from authz.yamlnodes import DocumentError, Entries, Items, Node, Text, compose

MAX_BYTES = 128 * 1024
MAX_ROLES = 128
MAX_FAULTS = 100
MAX_EFFECTIVE_GRANTS = 10_000
"""Over all roles, after inheritance: what keeps the templates within one account JWT."""

_TOP_KEYS = ("tenant", "roles", "agents")
_ROLE_KEYS = ("inherits", *ACTIONS, "deny")
_AGENT_KEYS = ("call", "publish", "subscribe", "data", "deny")


@dataclass(frozen=True, kw_only=True, slots=True, order=True)
class Fault:
    """One thing that is wrong with a policy file, with the line to mend."""

    line: int
    message: str


class PolicyFileError(AuthzError):
    """A policy file that was not accepted. Nothing of it was.

    Attributes:
        faults: all of them, in the order of their lines.
        source: the name of the file.
    """

    def __init__(self, faults: tuple[Fault, ...], *, source: str) -> None:
        first = faults[0]
        more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
        super().__init__(f"{source}:{first.line}: {first.message}{more}")
        self.faults = faults
        self.source = source


def load_policy(text: str, *, source: str = "policy.yaml") -> Policy:
    """Return the policy that ``text`` holds.

    Raises:
        PolicyFileError: with every fault that was found.
    """
    faults: list[Fault] = []
    policy = None
    try:
        policy = _Reader(faults, source).policy(_document(text))
    except DocumentError as error:
        faults.append(Fault(line=error.line, message=error.problem))
    if policy is None or faults:
        raise PolicyFileError(tuple(sorted(set(faults))), source=source)
    return policy


def _document(text: str) -> Node | None:
    try:
        size = len(text.encode())
    except UnicodeEncodeError as error:
        line = text.count("\n", 0, error.start) + 1
        raise DocumentError(line, "holds a character that can't be written as UTF-8") from error
    if size > MAX_BYTES:
        raise DocumentError(1, f"the file has {size} bytes: a policy has at most {MAX_BYTES}")
    return compose(text)


class _Reader:
    """Turns nodes into a policy, and collects faults on the way."""

    def __init__(self, faults: list[Fault], source: str) -> None:
        self._faults = faults
        self._source = source
        self._tenant = PLATFORM_TENANT

    def policy(self, root: Node | None) -> Policy | None:
        if not isinstance(root, Entries):
            self._fault(root.line if root else 1, "a policy must hold `tenant` and `roles`")
            return None
        sections = self._entries(root, "a policy", _TOP_KEYS)
        self._tenant = self._tenant_of(sections.get("tenant"), root.line)
        roles = {role.name: role for role in self._roles(sections)}
        if not self._faults and not roles:
            self._fault(root.line, "the policy has no role: add one under `roles`")
        policy = Policy(tenant=self._tenant, roles=MappingProxyType(roles), source=self._source)
        self._check_whole(policy, root.line)
        return policy

    def _tenant_of(self, node: Node | None, line: int) -> str:
        if node is None:
            self._fault(line, "`tenant` is missing: say whose policy this is, as in `tenant: st-marys`")
        elif not isinstance(node, Text):
            self._fault(node.line, "`tenant` must be one name, as in `tenant: st-marys`")
        elif name := self._name(tenant_name, node):
            return name
        return PLATFORM_TENANT  # the widest grammar, so that a missing tenant is the only fault it causes

    def _roles(self, sections: dict[str, Node]) -> Iterator[Role]:
        for key, node, line in self._children(sections.get("roles"), "roles"):
            if self._name(role_name, key):
                yield self._role(key.text, node, line, _ROLE_KEYS)
        for key, node, line in self._children(sections.get("agents"), "agents"):
            if self._name(agent_name, key):
                yield self._role(f"{AGENT_PREFIX}{key.text}", node, line, _AGENT_KEYS)

    def _children(self, node: Node | None, section: str) -> Iterator[tuple[Text, Node, int]]:
        if node is None:
            return
        if not isinstance(node, Entries) or not node.entries:
            self._fault(node.line, f"`{section}` must hold one entry or more, each a name and its grants")
            return
        self._report_duplicates(node)
        for key, child in node.entries:
            yield key, child, key.line

    def _role(self, name: str, node: Node, line: int, keys: tuple[str, ...]) -> Role:
        if not isinstance(node, Entries) or not node.entries:
            self._fault(
                line, f"role {quoted(name)} is empty: give it a grant, such as `call: [vitals.*]`, or remove it"
            )
            return Role(name=name, line=line)
        sections = self._entries(node, "an agent" if keys is _AGENT_KEYS else "a role", keys)
        grants = list(self._grants(name, sections, "allow"))
        if denied := sections.get("deny"):
            grants += self._denies(name, denied)
        return Role(name=name, line=line, inherits=tuple(self._parents(sections)), grants=tuple(grants))

    def _denies(self, role: str, node: Node) -> Iterator[Grant]:
        if not isinstance(node, Entries) or not node.entries:
            self._fault(node.line, "`deny` must say what, as in `deny: {call: [vitals.purge]}`")
            return
        yield from self._grants(role, self._entries(node, "`deny`", ACTIONS), "deny")

    def _grants(self, role: str, sections: dict[str, Node], effect: Effect) -> Iterator[Grant]:
        for action in ACTIONS:
            for item in self._list(sections.get(action), action):
                if self._pattern(action, item):
                    yield Grant(effect=effect, action=action, pattern=item.text, line=item.line, role=role)

    def _parents(self, sections: dict[str, Node]) -> Iterator[Parent]:
        seen: set[str] = set()
        for item in self._list(sections.get("inherits"), "inherits"):
            if item.text in seen:
                self._fault(item.line, f"{quoted(item.text)} is here twice: once is enough")
            elif self._name(role_name, item):
                seen.add(item.text)
                yield Parent(name=item.text, line=item.line)

    def _list(self, node: Node | None, key: str) -> Iterator[Text]:
        if node is None:
            return
        if not isinstance(node, Items) or not node.items:
            self._fault(node.line, f"`{key}` must be a list with something in it, as in `{key}: [{_SAMPLES[key]}]`")
            return
        for item in node.items:
            if isinstance(item, Text):
                yield item
            else:
                self._fault(item.line, f"`{key}` holds a list or mapping: it takes names and patterns only")

    def _pattern(self, action: Action, item: Text) -> bool:
        try:
            check_pattern(action, item.text, tenant=self._tenant)
        except PatternFormatError as error:
            self._fault(item.line, str(error))
            return False
        return True

    def _name(self, check: Callable[[str], str], item: Text) -> str | None:
        try:
            return check(item.text)
        except NameFormatError as error:
            self._fault(item.line, str(error))
            return None

    def _entries(self, node: Entries, what: str, known: tuple[str, ...]) -> dict[str, Node]:
        self._report_duplicates(node)
        for key, _ in node.entries:
            if key.text not in known:
                self._fault(
                    key.line, f"{what} has no key {quoted(key.text)}: it has {', '.join(f'`{k}`' for k in known)}"
                )
        return {key.text: value for key, value in node.entries if key.text in known}

    def _report_duplicates(self, node: Entries) -> None:
        first: dict[str, int] = {}
        for key, _ in node.entries:
            if key.text in first:
                self._fault(key.line, f"{quoted(key.text)} is here twice: line {first[key.text]} has it already")
            first.setdefault(key.text, key.line)

    def _check_whole(self, policy: Policy, line: int) -> None:
        if len(policy.roles) > MAX_ROLES:
            self._fault(line, f"the policy has {len(policy.roles)} roles and agents: at most {MAX_ROLES} are allowed")
            return
        for at, message in inheritance_faults(policy):
            self._fault(at, message)
        if not self._faults:
            total = sum(len(policy.effective_grants(name)) for name in policy.roles)
            if total > MAX_EFFECTIVE_GRANTS:
                self._fault(
                    line,
                    f"the roles come to {total} grants with what they inherit: "
                    f"at most {MAX_EFFECTIVE_GRANTS} are allowed, so use wildcards or fewer levels",
                )

    def _fault(self, line: int, message: str) -> None:
        if len(self._faults) == MAX_FAULTS:
            raise DocumentError(line, f"there are more than {MAX_FAULTS} faults: mend the first ones, then try again")
        self._faults.append(Fault(line=line, message=message))


_SAMPLES = {
    "inherits": "nurse",
    "call": "vitals.*",
    "publish": "vitals.reading",
    "subscribe": "vitals.alert",
    "admin": "policy.apply",
    "data": "phi",
}
