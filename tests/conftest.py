from asyncio import AbstractEventLoop
from collections.abc import Callable, Mapping

import uvloop

pytest_plugins = ["fixtures_server", "fixtures_gate"]


def pytest_asyncio_loop_factories() -> Mapping[str, Callable[[], AbstractEventLoop]]:
    """Tests run on the loop that the project runs on."""
    return {"uvloop": uvloop.new_event_loop}
