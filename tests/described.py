"""Hosts in tests answer what real ones do when a client asks what a capability needs."""

from runtime.bus.connection import Connection
from runtime.bus.message import Message
from runtime.envelope.describing import DescribeRequest, Description, encode_description
from runtime.envelope.errors import EnvelopeError
from runtime.envelope.messages import build_response
from runtime.envelope.sealedmessages import parse_any_request


def answered_description(connection: Connection, message: Message, *, sensitive: str | None = None) -> bool:
    """Answer `message` if it is a question about its capability; whether it was one."""
    try:
        request = parse_any_request(message.data, fallback_id="none")
    except EnvelopeError:
        return False
    if not isinstance(request, DescribeRequest):
        return False
    capability = message.subject.removeprefix("ai.capabilities.")
    description = Description(capability=capability, agent="toy", sensitive=sensitive, timeout=10.0)
    body = build_response(
        agent_id="toy",
        capability=capability,
        correlation_id=request.correlation_id,
        timestamp=1.0,
        result=encode_description(description),
    )
    connection.respond(message.reply, body)
    return True
