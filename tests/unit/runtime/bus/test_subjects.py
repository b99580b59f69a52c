import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.bus import subjects
from runtime.bus.errors import InvalidSubjectError

A = "A" + "B" * 55
U = "U" + "B" * 55

LITERALS = [
    (subjects.capability("vitals.assess"), "ai.capabilities.vitals.assess"),
    (subjects.capabilities_all(), "ai.capabilities.>"),
    (subjects.gate_capability(A, "vitals.assess"), f"tenant.{A}.capabilities.vitals.assess"),
    (subjects.gate_capabilities_all(A), f"tenant.{A}.capabilities.>"),
    (subjects.gate_capabilities_export(), "tenant.*.capabilities.>"),
    (subjects.admin("policy.apply", "st-marys"), "ai.admin.policy.apply.st-marys"),
    (subjects.admin_all(), "ai.admin.>"),
    (subjects.control_admin_all(), "tenant.*.admin.>"),
    (subjects.event("vitals", "alert"), "ai.events.vitals.alert"),
    (subjects.metric("vitals", "latency"), "ai.metrics.vitals.latency"),
    (subjects.inbox_prefix(U), f"_INBOX.{U}"),
    (subjects.inbox(U, "c0", "t0"), f"_INBOX.{U}.c0.t0"),
    (subjects.inbox(U, "c0", "*"), f"_INBOX.{U}.c0.*"),
    (subjects.claims_lookup(A), f"$SYS.REQ.ACCOUNT.{A}.CLAIMS.LOOKUP"),
    (subjects.kv_key("tenants", "st-marys"), "$KV.tenants.st-marys"),
    (subjects.USER_INFO, "$SYS.REQ.USER.INFO"),
    (subjects.CLAIMS_UPDATE, "$SYS.REQ.CLAIMS.UPDATE"),
    (subjects.CLAIMS_DELETE, "$SYS.REQ.CLAIMS.DELETE"),
    (subjects.CLAIMS_LIST, "$SYS.REQ.CLAIMS.LIST"),
    (subjects.PRESENCE_JOINED, "ai.agents.presence.joined"),
    (subjects.PRESENCE_LEFT, "ai.agents.presence.left"),
    (subjects.PRESENCE_HEARTBEAT, "ai.agents.presence.heartbeat"),
    (subjects.SERVICE_REPLY_PREFIX, "_R_."),
]


@pytest.mark.parametrize(("built", "literal"), LITERALS)
def test_subject_is_exactly_this(built: str, literal: str) -> None:
    assert built == literal


@pytest.mark.parametrize("name", ["", "*", ">", "a.>", "a..b", ".a", "a.", "A", "a b", "a.b.c.d.e", "é", "a\n", "$SYS"])
def test_capability_that_would_widen_or_break_the_subject_is_refused(name: str) -> None:
    with pytest.raises(InvalidSubjectError):
        subjects.capability(name)
    with pytest.raises(InvalidSubjectError):
        subjects.gate_capability(A, name)
    assert subjects.parse_gate_capability(f"tenant.{A}.capabilities.{name}") is None


@pytest.mark.parametrize("account", ["", "*", ">", "A", U, A + "B", A.lower()])
def test_what_is_no_account_is_refused(account: str) -> None:
    with pytest.raises(InvalidSubjectError):
        subjects.gate_capabilities_all(account)
    assert subjects.parse_gate_capability(f"tenant.{account}.capabilities.x") is None
    assert subjects.parse_control_admin(f"tenant.{account}.admin.a.b.c") is None


@pytest.mark.parametrize(
    ("command", "target"), [("policy", "t"), ("a.b.c", "t"), ("a.*", "t"), ("a.b", ">"), ("a.b", "")]
)
def test_administrative_subject_has_a_command_of_two_tokens_and_one_target(command: str, target: str) -> None:
    with pytest.raises(InvalidSubjectError):
        subjects.admin(command, target)


def test_delivered_subjects_are_taken_apart() -> None:
    assert subjects.parse_gate_capability(f"tenant.{A}.capabilities.vitals.assess") == (A, "vitals.assess")
    assert subjects.parse_control_admin(f"tenant.{A}.admin.policy.apply.st-marys") == (A, "policy.apply", "st-marys")


@pytest.mark.parametrize(
    "subject", ["", "x", f"tenant.{A}.streams.x", f"tenants.{A}.capabilities.x", f"tenant.{A}.capabilities", "ai.x"]
)
def test_other_subjects_are_no_capability_request(subject: str) -> None:
    assert subjects.parse_gate_capability(subject) is None


@given(st.text())
def test_parsers_take_any_text(text: str) -> None:
    subjects.parse_gate_capability(text)
    subjects.parse_control_admin(text)
    subjects.parse_gate_capability(f"tenant.{A}.capabilities.{text}")
    subjects.parse_control_admin(f"tenant.{A}.admin.a.b.{text}")


@given(st.from_regex(r"[a-z0-9_-]{1,8}(\.[a-z0-9_-]{1,8}){0,3}", fullmatch=True))
def test_gate_subject_is_taken_apart_into_what_it_was_built_from(name: str) -> None:
    assert subjects.parse_gate_capability(subjects.gate_capability(A, name)) == (A, name)
