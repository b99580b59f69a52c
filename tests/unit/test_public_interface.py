"""What users import. A name that comes or goes is announced: in CHANGELOG.md, and in this table."""

import importlib

import pytest

INTERFACE = {
    "runtime": "",
    "runtime.agent": (
        "Agent AgentDefinitionError AgentError CallRefusedError Caller CallerInfo CapabilityError CapabilitySpec "
        "DeadlinePassedError FieldFault HandlerExitError InputInvalidError Invocation Model NotGrantedError "
        "OutputInvalidError RequestRejectedError Sensitive capability capability_table rejection"
    ),
    "runtime.client": (
        "Answer AnswerRefusedError BadAnswerError CallFailedError Client ClientError DeadlineError "
        "DeniedError ExpiredCredentialsError FolderError HandlerFailedError InvalidRequestError "
        "KeyRefusedError NotAuthenticatedError OverLimitError RejectedCredentialsError RetryPolicy "
        "ServerRefusedError TooLargeError UnavailableError UnreachableError"
    ),
}


@pytest.mark.parametrize("module", INTERFACE)
def test_the_interface_is_the_one_that_was_announced(module: str) -> None:
    offered = getattr(importlib.import_module(module), "__all__", ())
    assert set(offered) == set(INTERFACE[module].split())
    assert all(hasattr(importlib.import_module(module), name) for name in offered)
