"""`garrison demo` as a newcomer runs it: the whole platform, every attack, one JSON document."""

import asyncio
import json
import sys


async def test_demo_shows_every_scene_as_expected() -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "runtime.cli",
        "demo",
        "--json",
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate()
    shown = json.loads(out)
    assert [step for step in shown["steps"] if not step["ok"]] == []
    assert (process.returncode, shown["ok"], err) == (0, True, b"")
    assert len(shown["steps"]) >= 14
    assert set(shown["steps"][0]) == {"name", "expected", "got", "ok", "ms"}
