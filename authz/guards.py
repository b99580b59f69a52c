"""The last check of a template before nats-server gets it: rules that no role of any tenant may break.

`authz.patterns` can't express a grant that breaks them; this module checks the finished subjects all the same,
without knowing how they came about. It refuses, and never mends.
"""

from authz.errors import AuthzError
from authz.permissions import SubjectPermissions
from authz.quoting import quoted
from authz.subjects import REST, covers, overlaps

OWN_INBOX = "_INBOX.{{subject()}}.>"
"""nats-server puts the user's public key in: each user has an inbox space of their own. # SEC-3"""

USER_INFO = "$SYS.REQ.USER.INFO"

# SEC-3: others' inboxes; SEC-5: listening in on requests; SEC-4: JetStream and the system's own subjects
_NEVER_SUBSCRIBED = {
    "_INBOX.>": "SEC-3",
    "_R_.>": "SEC-1",
    "$SYS.>": "SEC-4",
    "$JS.>": "SEC-4",
    "$KV.>": "SEC-4",
    "$O.>": "SEC-4",
    "ai.capabilities.>": "SEC-5",
    "ai.streams.>": "SEC-5",
    "ai.admin.>": "SEC-5",
}
# SEC-1: answers travel over `_R_`; SEC-4: `$SYS` hands out users' JWTs, `$JS.API` makes streams
_NEVER_PUBLISHED = {
    "_INBOX.>": "SEC-3",
    "_R_.>": "SEC-1",
    "$SYS.>": "SEC-4",
    "$JS.>": "SEC-4",
    "$KV.>": "SEC-4",
    "$O.>": "SEC-4",
}


class UnsafeGrantError(AuthzError):
    """A template that would break a security rule.

    Attributes:
        role: whose template.
        subject: the subject at fault.
        rule: the rule, such as `SEC-5`.
    """

    def __init__(self, *, role: str, subject: str, rule: str) -> None:
        super().__init__(f"role {quoted(role)} must not have {quoted(subject)}: it breaks {rule}")
        self.role = role
        self.subject = subject
        self.rule = rule


def empty_means_deny(permissions: SubjectPermissions) -> SubjectPermissions:
    """Return the permissions with `deny >` beside each empty allow list, which nats-server would read as "everything".

    # SEC-3
    """
    return SubjectPermissions(
        publish_allow=permissions.publish_allow,
        publish_deny=permissions.publish_deny if permissions.publish_allow else (REST,),
        subscribe_allow=permissions.subscribe_allow,
        subscribe_deny=permissions.subscribe_deny if permissions.subscribe_allow else (REST,),
        responses=permissions.responses,
    )


def check_template(role: str, permissions: SubjectPermissions) -> None:
    """Refuse a template that breaks SEC-1, SEC-3, SEC-4 or SEC-5.

    Raises:
        UnsafeGrantError: for the first subject at fault.
    """
    if permissions != empty_means_deny(permissions):
        raise UnsafeGrantError(role=role, subject=REST, rule="SEC-3")
    _check(role, permissions.subscribe_allow, _NEVER_SUBSCRIBED, harmless=OWN_INBOX)
    _check(role, permissions.publish_allow, _NEVER_PUBLISHED, harmless=USER_INFO)


def _check(role: str, subjects: tuple[str, ...], forbidden: dict[str, str], *, harmless: str) -> None:
    for subject in subjects:
        for pattern, rule in forbidden.items():
            if overlaps(pattern, subject) and not covers(harmless, subject):
                raise UnsafeGrantError(role=role, subject=subject, rule=rule)
