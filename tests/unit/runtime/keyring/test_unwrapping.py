"""A key is taken from a true answer to this very request, and from no other."""

from collections.abc import Callable

import pytest
from envelope_keys import CID, CONTROL, MALLORY, NURSE, OTHER_CID, PHI, data_key

from runtime.envelope.errors import KeyDestroyedError, KeyRefusedError, KeyUnavailableError, KeyWrapError
from runtime.envelope.keyid import KeyId
from runtime.envelope.keywrap import UnwrapCall, build_unwrap_answer
from runtime.envelope.unwrap import UnwrapAnswer, UnwrapRequest
from runtime.keyring.unwrapping import Unwrapping

NOW = 1_800_000_000


def call(correlation_id: str = CID) -> UnwrapCall:
    return UnwrapCall(tenant="acme", account="A", user="U", correlation_id=correlation_id)


class Control:
    """Answers truly, unless told otherwise."""

    def __init__(self) -> None:
        self.requests: list[UnwrapRequest] = []
        self.signs: Callable[[bytes], bytes] = CONTROL.sign
        self.answers_to = call()
        self.error: Exception | None = None

    async def ask(self, request: UnwrapRequest) -> tuple[UnwrapAnswer, UnwrapCall]:
        self.requests.append(request)
        if self.error is not None:
            raise self.error
        wanted = request.wanted
        answer = build_unwrap_answer(
            self.answers_to,
            dek=data_key(wanted if isinstance(wanted, KeyId) else wanted.at(1)),
            state="active",
            one_time_key=request.one_time_key,
            expires_at=NOW + 60,
            sign=self.signs,
        )
        return answer, call()


def unwrapping(control: Control, *, agent: str | None = None, now: float = NOW) -> Unwrapping:
    return Unwrapping(control.ask, verify=CONTROL.public.verify, agent=agent, wall=lambda: now)


@pytest.mark.parametrize("wanted", [PHI, PHI.scope])
async def test_true_answer_gives_the_key(wanted: KeyId) -> None:
    control = Control()
    unwrapped = await unwrapping(control, agent="vitals").unwrap(wanted)
    assert unwrapped.dek == data_key(PHI)
    assert unwrapped.expires_at == NOW + 60
    assert (control.requests[0].wanted, control.requests[0].agent) == (wanted, "vitals")


async def test_each_request_has_a_one_time_key_of_its_own() -> None:
    control = Control()
    for _ in range(2):
        await unwrapping(control).unwrap(PHI)
    assert len({request.one_time_key for request in control.requests}) == 2
    assert control.requests[0].agent is None


async def test_answer_signed_by_anyone_but_the_pinned_control_plane_is_not_taken() -> None:
    control = Control()
    control.signs = MALLORY.sign
    with pytest.raises(KeyUnavailableError):
        await unwrapping(control).unwrap(PHI)
    control.signs = NURSE.sign
    with pytest.raises(KeyUnavailableError):
        await unwrapping(control).unwrap(PHI)


async def test_answer_to_another_call_is_not_taken() -> None:
    control = Control()
    control.answers_to = call(OTHER_CID)
    with pytest.raises(KeyUnavailableError):
        await unwrapping(control).unwrap(PHI)


async def test_answer_that_came_too_late_is_not_taken() -> None:
    with pytest.raises(KeyUnavailableError):
        await unwrapping(Control(), now=NOW + 60).unwrap(PHI)


@pytest.mark.parametrize(
    ("raised", "expected"),
    [
        (KeyWrapError("destroyed"), KeyDestroyedError),
        (KeyWrapError("malformed"), KeyUnavailableError),
        (KeyRefusedError("phi@1"), KeyRefusedError),
    ],
    ids=repr,
)
async def test_what_the_control_plane_says_is_told_apart(raised: Exception, expected: type[Exception]) -> None:
    control = Control()
    control.error = raised
    with pytest.raises(expected) as caught:
        await unwrapping(control).unwrap(PHI)
    assert type(caught.value) is expected
