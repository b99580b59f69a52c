"""However calls, handlers, deadlines and drains interleave: one answer each, and every slot comes back."""

import asyncio
from typing import Any

from dispatch_bench import Bench
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from runtime.dispatch import CallContext

CONCURRENCY = 2
unhurried = settings(deadline=None, max_examples=200, suppress_health_check=[HealthCheck.too_slow])
steps = st.sampled_from(
    ["call", "call", "call", "return", "raise", "exit", "cancel", "stubborn", "deadline", "deadline", "drain"]
)
# Most steps let the loop run on; the others leave things to happen in the same turn.
scripts = st.lists(st.tuples(steps, st.sampled_from([True, True, True, False])), max_size=25)
lame_ducks = st.none() | st.integers(0, 25)


class Stage:
    """A bench whose handlers do what they are told, in the order in which they began."""

    def __init__(self) -> None:
        self.bench = Bench(share=CONCURRENCY + 1)
        self.bench.served.concurrency = CONCURRENCY
        self.bench.served.handler = self.handle
        self.cues: list[asyncio.Future[str]] = []
        self.running = 0
        self.most = 0
        self.sent = 0

    async def handle(self, value: Any, context: CallContext) -> Any:
        del context
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            return await self.perform(value)
        finally:
            self.running -= 1

    async def perform(self, value: Any) -> Any:
        while True:
            cue: asyncio.Future[str] = asyncio.get_running_loop().create_future()
            self.cues.append(cue)
            match await cue:
                case "return":
                    return value
                case "raise":
                    raise ValueError("handler")
                case "exit":
                    raise SystemExit
                case "stubborn":
                    return await self.ignore_cancellation(value)

    async def ignore_cancellation(self, value: Any) -> Any:
        cue: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.cues.append(cue)
        while not cue.done():
            try:
                await asyncio.shield(cue)
            except asyncio.CancelledError:
                continue
        return value

    async def act(self, action: str) -> None:
        dispatcher = self.bench.dispatcher
        running = list(dispatcher._running.items())
        match action:
            case "call":
                self.sent += 1
                self.bench.send(reply=f"_R_.{self.sent}")
            case "deadline" if running:
                task, call = running[0]
                dispatcher._deadline_passed(call, task)
            case "cancel" if running:
                running[0][0].cancel()
            case "drain":
                await dispatcher.drain(0, only=[])
            case _:
                self.cue(action)

    def cue(self, action: str) -> None:
        waiting = [cue for cue in self.cues if not cue.done()]
        if waiting:
            waiting[0].set_result(action)

    async def end(self) -> None:
        """Let every handler return."""
        while self.bench.dispatcher._running:
            for cue in self.cues:
                if not cue.done():
                    cue.set_result("return")
            await asyncio.sleep(0)


@unhurried
@given(scripts, lame_ducks)
@example([(step, True) for step in ("call", "stubborn", "deadline", "call", "call", "call")], None)
@example([(step, False) for step in ("call", "cancel", "call", "deadline", "drain", "call")], None)
def test_every_call_is_answered_once_and_every_slot_comes_back(
    script: list[tuple[str, bool]], lame_duck_at: int | None
) -> None:
    async def play() -> Stage:
        stage = Stage()
        try:
            for number, (action, lets_run) in enumerate(script):
                if number == lame_duck_at:
                    stage.bench.dispatcher.lame_duck()
                await stage.act(action)
                for _ in range(3 * lets_run):
                    await asyncio.sleep(0)
                assert stage.running <= CONCURRENCY
        finally:
            await stage.end()
        return stage

    stage = asyncio.run(play())
    assert sorted(answer.reply for answer in stage.bench.answers) == sorted(
        f"_R_.{number}" for number in range(1, stage.sent + 1)
    )
    assert stage.most <= CONCURRENCY
    assert stage.bench.dispatcher._slots.in_all == 0
    assert stage.bench.dispatcher._slots._taken == {}
    assert stage.bench.dispatcher.counters.in_flight == 0
    assert {answer.code for answer in stage.bench.answers} <= {200, 408, 429, 500, 503}
