"""`vitals.assess`: the early warning score of one set of observations.

    garrison agent deploy TENANT examples/healthcare
    garrison call vitals.assess "$(cat examples/healthcare/deteriorating.json)" --as DIR

Observations are sealed from the caller to the handler and back: whoever calls holds the data label `phi`. Nothing about
a patient is kept or logged; the answer carries no identity, only the call's correlation id.
"""

from pydantic import BaseModel, ConfigDict

from runtime.agent import Agent, Invocation, capability

from .news2 import Risk, score
from .observations import Observation


class Assessment(BaseModel):
    """A score with what led to it and what it asks for, in the words of the charts."""

    model_config = ConfigDict(frozen=True)
    total: int
    risk: Risk
    points: dict[str, int]
    spo2Scale: int  # noqa: N815 - as in the request
    trigger: str
    monitoring: str
    urgency: str
    actions: tuple[str, ...]


class VitalsAgent(Agent):
    """Scores observations by NEWS2."""

    name = "vitals"
    version = "1.0.0"

    @capability("vitals.assess", timeout=5, idempotent=True, sensitive="phi")
    async def assess(self, request: Observation, invocation: Invocation) -> Assessment:
        """Score one complete set of observations; each parameter's points, the risk and the response."""
        vitals = request.vitals()
        result = score(vitals)
        invocation.logger.info("assessed a set of observations for a %s", invocation.principal.role)
        return Assessment(
            total=result.total,
            risk=result.risk,
            points=dict(result.points),
            spo2Scale=vitals.spo2_scale,
            trigger=result.response.trigger,
            monitoring=result.response.monitoring,
            urgency=result.response.urgency,
            actions=result.response.actions,
        )
