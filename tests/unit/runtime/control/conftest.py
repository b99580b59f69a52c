from collections.abc import AsyncIterator

import pytest
from control_harness import Caller, Process, Site


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    site = Site()
    yield site
    await site.close()


@pytest.fixture
async def process(site: Site) -> Process:
    return await site.start()


@pytest.fixture
async def operator(process: Process) -> Caller:
    return await process.platform_caller("operator", "root")


@pytest.fixture
async def host(process: Process) -> Caller:
    return await process.platform_caller("host", "local")
