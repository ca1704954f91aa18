"""The handlers that Restate calls, in a process of their own.

Beside Restate's own paths the process answers `/open` (lets the handlers of `steps` begin), `/ended` (how many ended)
and `/awakeables` (the ids of those that wait), so that counting is not itself durable work.
"""

from __future__ import annotations

import asyncio
import importlib
import json
from typing import Any

restate: Any = importlib.import_module("restate")

_gate = asyncio.Event()
_ended = 0
_awakeables: list[str] = []
_work = restate.Service("work")


async def _one() -> int:
    return 1


async def _text(size: int) -> str:
    return "x" * (size - 2)


async def steps(ctx: Any, wanted: dict[str, int]) -> int:
    """So many steps, once the gate is open if that is wanted."""
    global _ended  # noqa: PLW0603  one process, one count
    if wanted.get("gated"):
        await _gate.wait()
    for number in range(wanted["steps"]):
        if wanted.get("result_bytes"):
            await ctx.run_typed(f"step_{number}", _text, size=wanted["result_bytes"])
        else:
            await ctx.run_typed(f"step_{number}", _one)
    _ended += 1
    return wanted["steps"]


async def fan(ctx: Any, entries: int) -> int:
    """So many steps at once."""
    return len(await restate.gather(*(ctx.run_typed(f"entry_{number}", _one) for number in range(entries))))


async def parent(ctx: Any, wanted: dict[str, int]) -> Any:
    """Calls `steps` as an invocation of its own."""
    return await ctx.service_call(_steps, wanted)


async def wait(ctx: Any, number: int) -> Any:
    """Waits for an answer from outside."""
    name, answer = ctx.awakeable()
    _awakeables.append(name)
    return await answer


_steps = _work.handler()(steps)
for _handler in (fan, parent, wait):
    _work.handler()(_handler)
_restate_app = restate.app(services=[_work])


async def app(scope: Any, receive: Any, send: Any) -> None:
    """Restate's own application, and three paths beside it."""
    answers = {"/ended": _ended, "/awakeables": _awakeables, "/open": 1}
    if scope["type"] == "http" and scope["path"] in answers:
        if scope["path"] == "/open":
            _gate.set()
        body = json.dumps(answers[scope["path"]]).encode()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"application/json")]})
        await send({"type": "http.response.body", "body": body})
        return
    await _restate_app(scope, receive, send)
