"""The command `garrison demo`: prints each scene as it is played."""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from runtime.cli.exits import Exit
from runtime.cli.options import JsonOption, examples
from runtime.cli.output import Output

if TYPE_CHECKING:
    from runtime.cli.demo.script import Scene


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("demo", epilog=examples("garrison demo", "garrison demo --json"))(demo)


def demo(as_json: JsonOption = False) -> None:
    """Start a platform in a temporary folder, make one call, and try every attack on it.

    Each line says what was tried, what came of it and how long it took. Exits 0 only if all went as it should.
    """
    import uvloop

    raise typer.Exit(uvloop.run(_play(Output(as_json=as_json))))


async def _play(output: Output) -> int:
    from runtime.cli.demo.script import play
    from runtime.cli.demo.stage import set_stage
    from runtime.cli.up import log_to
    from runtime.client import Client
    from runtime.wiring.platform import Platform
    from runtime.wiring.platform_folder import PlatformFolder

    started = time.perf_counter()
    scenes: list[Scene] = []
    with tempfile.TemporaryDirectory(prefix="garrison-demo-") as temporary:
        root = Path(temporary)
        folder = PlatformFolder(root=root / "platform")
        folder.prepare()
        log_to(folder.logs / "platform.log")
        platform = Platform(folder, port=-1, progress=lambda step: output.note(f"{step} …"))
        await platform.start(os.environ)
        try:
            async with Client.connect(platform.operator_folder) as operator:
                output.note("creating two hospitals, deploying agents, issuing credentials …")
                stage = await set_stage(platform, folder, operator, root)
                async for scene in play(stage):
                    scenes.append(scene)
                    _print(scene, output)
        finally:
            await platform.stop()
    ok = all(scene.ok for scene in scenes)
    held = sum(scene.ok for scene in scenes)
    output.result(
        {"ok": ok, "steps": [scene.as_dict() for scene in scenes]},
        f"{held} of {len(scenes)} as expected, in {time.perf_counter() - started:.1f} s",
    )
    return Exit.OK if ok else Exit.FAILED


def _print(scene: Scene, output: Output) -> None:
    if output.as_json:
        return
    mark = "ok  " if scene.ok else "FAIL"
    output.line(f"{mark} {scene.name:<50} {scene.got}  ({scene.ms:.0f} ms)")
    if not scene.ok:
        output.line(f"     expected: {scene.expected}")
