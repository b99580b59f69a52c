"""The enforcement point: every request passes one numbered procedure before a handler sees it."""

from runtime.dispatch.errors import InputRefusedError, RequestRefusedError, UnavailableError
from runtime.dispatch.limits import DispatchLimits
from runtime.dispatch.outcomes import AuditRecord, AuditSink, Counters
from runtime.dispatch.ports import CallContext, Clock, KeysOf, KeySource, Respond, ServedCapability, TenantView
from runtime.dispatch.procedure import Dispatcher

__all__ = [
    "AuditRecord",
    "AuditSink",
    "CallContext",
    "Clock",
    "Counters",
    "DispatchLimits",
    "Dispatcher",
    "InputRefusedError",
    "KeySource",
    "KeysOf",
    "RequestRefusedError",
    "Respond",
    "ServedCapability",
    "TenantView",
    "UnavailableError",
]
