"""Early warning of deterioration on a hospital ward: NEWS2 from a set of bedside observations.

`news2` is the published score, pure; `observations` reads FHIR-style observations; `agent` answers `vitals.assess`. An
example of how an agent is written, not a medical device.
"""

from .agent import VitalsAgent

__all__ = ["VitalsAgent"]
