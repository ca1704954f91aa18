"""An agent that asks: a step suspends its run, is called again with a person's answer, and may suspend again.

    python examples/agent.py

The agent tidies a folder. It deletes temporary files by itself and asks before it deletes anything else. To ask, its
handler returns `Suspended(snapshot)`: the snapshot is journaled, and the process may exit. `resume` calls the same step
again, with the answer in `ctx.resume_data` and the snapshot in `ctx.results[ctx.step]`. A language model with tools
works in the same way: the conversation is the snapshot, and a tool call that needs approval is the question.

Note:
* Between the two answers, no worker runs, and nothing is lost.
* The agent's side effect (deleting a file) is safe to repeat, because a crash may make the step run again.
"""

# ruff: noqa: D103  an example's functions are named for what they do

import asyncio
import tempfile
from pathlib import Path
from typing import Any

from stepwell import Context, Durable, Suspended, durable

FILES = {"notes.tmp": 10, "holiday.jpg": 4_000, "thesis.txt": 90, "crash.core": 9_000}


def tidy(ctx: Context) -> Suspended | dict[str, Any]:
    """One turn of the agent: goes on from its snapshot until it is done or has to ask."""
    folder = Path(ctx.input["folder"])
    state = ctx.results.get(ctx.step) or {"left": sorted(FILES), "deleted": [], "kept": []}
    answer = ctx.resume_data
    while state["left"]:
        name = state["left"][0]
        if answer is None and not name.endswith(".tmp") and FILES[name] > 1_000:
            question = f"May I delete {name} ({FILES[name]} bytes)?"
            return Suspended({**state, "question": question})
        delete = name.endswith(".tmp") if answer is None else answer["yes"]
        if delete:
            (folder / name).unlink(missing_ok=True)
        state["deleted" if delete else "kept"].append(name)
        state["left"].pop(0)
        answer = None
    return {"deleted": state["deleted"], "kept": state["kept"]}


agent = durable("agent").step("tidy", tidy)


async def until_asked(app: Durable, run_id: str, asked_before: str = "") -> str:
    """Waits until the agent asks something new; the question."""
    while True:
        run = await app.status(run_id)
        question = (run.results or {}).get("tidy", {}).get("question", "")
        if run.awaiting_signal == "tidy" and question != asked_before:
            return str(question)
        await asyncio.sleep(0.05)


async def main() -> None:
    with tempfile.TemporaryDirectory() as home:
        folder = Path(home) / "folder"
        folder.mkdir()
        for name, size in FILES.items():
            (folder / name).write_bytes(bytes(size))
        url = f"sqlite:///{home}/agent.db"

        async with Durable(url, workflows=[agent]) as app, app.worker():
            run_id = (await app.start(agent, {"folder": str(folder)})).run_id
            first = await until_asked(app, run_id)
            print(first)

        # That app and its worker are gone. Days later, another process brings the answer.
        async with Durable(url, workflows=[agent]) as app:
            answered = await app.resume(run_id, "tidy", {"yes": True})
            print(f"  yes: {'accepted' if answered.accepted else 'refused'}")
            async with app.worker():
                print(await until_asked(app, run_id, asked_before=first))
                answered = await app.resume(run_id, "tidy", {"yes": False})
                print(f"  no: {'accepted' if answered.accepted else 'refused'}")
                tidied = (await app.result(run_id, timeout=30))["tidy"]
                print(f"deleted: {tidied['deleted']}, kept: {tidied['kept']}")
        print("in the folder:", sorted(path.name for path in folder.iterdir()))


if __name__ == "__main__":
    asyncio.run(main())
