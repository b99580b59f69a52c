"""An in-process agent's capability in the form that dispatch invokes."""

from dataclasses import dataclass

from authz.principals import Principal
from runtime.agent import Caller, CallerInfo, CapabilitySpec, InputInvalidError, Invocation, RequestRejectedError
from runtime.dispatch.errors import InputRefusedError, RequestRefusedError
from runtime.dispatch.ports import CallContext
from runtime.envelope.messages import field_faults


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class InlineCapability:
    """Implements `ServedCapability`: maps dispatch's values and errors to those that authors see, and back."""

    spec: CapabilitySpec
    agent_id: str
    caller: Caller

    @property
    def timeout_s(self) -> float:
        """Seconds that one call may take."""
        return self.spec.timeout

    @property
    def concurrency(self) -> int:
        """Calls that may run at a time."""
        return self.spec.concurrency

    @property
    def sensitive(self) -> str | None:
        """The label of its data."""
        return self.spec.sensitive

    def validate(self, data: bytes, /) -> object:
        """Read the input by the handler's model."""
        try:
            return self.spec.validate_input(data)
        except InputInvalidError as error:
            raise InputRefusedError(field_faults(error.fields)) from error

    async def invoke(self, value: object, context: CallContext, /) -> object:
        """Run the handler; its deadline is the dispatcher's to enforce."""
        invocation = Invocation(
            capability=context.capability,
            principal=_caller_info(context.principal),
            correlation_id=context.correlation_id,
            deadline=context.deadline,
            agent=self.agent_id,
            caller=self.caller,
        )
        try:
            return await self.spec.invoke(value, invocation)
        except RequestRejectedError as error:
            fields = field_faults(error.fields) if error.path else ()
            raise RequestRefusedError(error.message, fields=fields) from error

    def encode(self, output: object, /) -> bytes:
        """Check the output by the handler's model and encode it."""
        return self.spec.encode_output(output)


def _caller_info(principal: Principal) -> CallerInfo:
    return CallerInfo(
        tenant=principal.tenant,
        user=principal.user,
        name=principal.name,
        role=principal.role,
        tags=principal.tags,
        assurance=principal.assurance,
    )
