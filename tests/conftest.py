from asyncio import AbstractEventLoop
from collections.abc import Callable, Mapping

import uvloop
from hypothesis import HealthCheck, settings

pytest_plugins = ["fixtures_server", "fixtures_gate", "fixtures_control"]

# Test machines are shared: how long one example takes is no verdict.
settings.register_profile("shared machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("shared machine")


def pytest_asyncio_loop_factories() -> Mapping[str, Callable[[], AbstractEventLoop]]:
    """Tests run on the loop that the project runs on."""
    return {"uvloop": uvloop.new_event_loop}
