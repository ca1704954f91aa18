"""An import of a CSV file in chunks: each chunk is journaled, its rows run at once, and a bad row stops nothing.

    python examples/import_rows.py

Kill it halfway and run it again: it continues with the chunk that was interrupted.
"""

import asyncio
import csv
from decimal import Decimal
from pathlib import Path

import msgspec

from stepwell import Context, Durable, durable

CHUNK = 100


class Progress(msgspec.Struct):
    """How far an import has come: the input of its next chunk, and its result."""

    rows: int = 0
    bad: list[str] = []
    done: bool = False


imports = durable("import", input=str)


async def import_row(row: dict[str, str], key: str) -> Decimal:
    """Import one row; the key is the same whenever its chunk is called again."""
    return Decimal(row["amount"])  # write it where it belongs, under the key


@imports.loop(
    "rows",
    max_iterations=1_000_000,
    map_input=lambda ctx: Progress(),
    until=lambda progress, iteration: progress.done,
    feedback=lambda progress: progress,
)
async def rows(so_far: Progress, ctx: Context[str]) -> Progress:
    """Import the next chunk."""
    text = await asyncio.to_thread(Path(ctx.input).read_text, encoding="utf-8")
    chunk = list(csv.DictReader(text.splitlines()))[so_far.rows : so_far.rows + CHUNK]
    calls = (import_row(row, f"{ctx.run_id}/{row['id']}") for row in chunk)
    ended = await asyncio.gather(*calls, return_exceptions=True)
    bad = [f"{row['id']}: {error!r}" for row, error in zip(chunk, ended, strict=True) if isinstance(error, Exception)]
    return Progress(so_far.rows + len(chunk), [*so_far.bad, *bad], done=len(chunk) < CHUNK)


async def main() -> None:
    """Write a file with a bad row and import it."""
    lines = [f"{number},{number}.50" for number in range(250)]
    lines[41] = "41,many"
    await asyncio.to_thread(Path("rows.csv").write_text, "\n".join(["id,amount", *lines]) + "\n", encoding="utf-8")
    async with Durable("sqlite:///import.db", workflows=[imports]) as app, app.worker():
        progress: Progress = (await app.run(imports, "rows.csv", key="2026-12-01"))["rows"]
    print(progress.rows, "rows,", len(progress.bad), "bad")
    for line in progress.bad:
        print(" ", line)


if __name__ == "__main__":
    asyncio.run(main())
