"""What a capability needs of a call: nothing, the caller's signature, or that its data is sealed as well.

Asked for before the first call, and again after a while, so that sensitive data never leaves in the clear; learned from
refusals too, since an agent may have been replaced meanwhile. Rules it keeps: what is learned can only make the next
attempt stricter, never turn a sealed one into plaintext; what the caller asked for is never changed; a label that this
caller gets no key for is forgotten again, so that one wrong answer does no lasting harm.
"""

from __future__ import annotations

from dataclasses import dataclass

from runtime.client.errors import CallFailedError, InvalidRequestError
from runtime.envelope.errors import KeyIdError
from runtime.envelope.keyid import KeyScope

SIGNED = "signed"
SEALED = "sealed:"
_BAD_REQUEST = 400
_UNAUTHENTICATED = 401


@dataclass(frozen=True, kw_only=True, slots=True)
class Need:
    """How a call is sent; sealed calls are always signed.

    Attributes:
        signed: By the caller's own key.
        scope: The label and data subject that it is sealed for; None leaves it in the clear.
    """

    signed: bool = False
    scope: KeyScope | None = None

    def stricter(self, error: CallFailedError) -> Need | None:
        """What a refusal asks for beyond this; None if it asks for nothing more, or for what can't be."""
        if error.code == _UNAUTHENTICATED and error.required == SIGNED and not self.signed:
            return Need(signed=True)
        if error.code == _BAD_REQUEST and error.required.startswith(SEALED):
            scope = _scope(error.required.removeprefix(SEALED))
            return Need(signed=True, scope=scope) if scope is not None and scope != self.scope else None
        return None


NOTHING = Need()
REMEMBERED_S = 60.0  # how long a capability is taken to need nothing


class Needs:
    """What has been learned, by capability."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[Need, float]] = {}

    def of(self, capability: str, now: float) -> Need | None:
        """What it needs; None if that is unknown, or was learned too long ago. `now` in monotonic seconds."""
        need, learned_at = self._known.get(capability, (None, now))
        return None if need == NOTHING and now - learned_at > REMEMBERED_S else need

    def learn(self, capability: str, need: Need, now: float) -> Need:
        """Remember it."""
        self._known[capability] = (need, now)
        return need

    def forget(self, capability: str) -> None:
        """Ask again next time."""
        self._known.pop(capability, None)


def described(sensitive: str | None) -> Need:
    """What a description asks for; its label, if any, is one that can be."""
    return NOTHING if sensitive is None else Need(signed=True, scope=KeyScope.of(sensitive))


def asked_for(seal: str | None, subject: str | None) -> Need | None:
    """What a caller asks for with a label and a data subject; None leaves it to be learned.

    Raises:
        InvalidRequestError: There can be no such label or data subject, or the label is missing.
    """
    if seal is None:
        if subject is None:
            return None
        message = f"a data subject needs a label: give `seal` with `{subject[:100]}`"
        raise InvalidRequestError(code=400, message=message, correlation_id="")
    try:
        return Need(signed=True, scope=KeyScope.of(seal, subject))
    except KeyIdError as error:
        message = f"no label `{seal[:100]}`, or no data subject `{(subject or '')[:100]}`, can exist"
        raise InvalidRequestError(code=400, message=message, correlation_id="") from error


def _scope(label: str) -> KeyScope | None:
    try:
        return KeyScope.of(label)
    except KeyIdError:
        return None
