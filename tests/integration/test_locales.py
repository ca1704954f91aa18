"""The locale of the process makes no difference: what is ours is UTF-8."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.postgres import fresh_url

PROGRAM = """
import asyncio, sys
from stepwell import Durable, durable

async def main():
    flow = durable("flow").step("echo", lambda ctx: ctx.input)
    async with Durable(sys.argv[1], [flow]) as app, app.worker():
        started = await app.start(flow, "\\u00e9\\u540d", key="\\u540d")
        print(ascii(await app.result(started.run_id, timeout=20)))

asyncio.run(main())
"""
LOCALES = [
    {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    {"LC_ALL": "POSIX"},
    {"LC_ALL": "zh_CN.GBK", "PYTHONUTF8": "0"},
    {"LC_ALL": "ja_JP.EUC-JP", "PYTHONUTF8": "0"},
]


@pytest.mark.parametrize("store", ["sqlite", "postgres"])
@pytest.mark.parametrize("locale", LOCALES, ids=lambda locale: locale["LC_ALL"])
def test_a_run_ends_in_any_locale(store: str, locale: dict[str, str]) -> None:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("LC_", "LANG", "PYTHON"))}
    strict = ["-X", "warn_default_encoding", "-W", "error::EncodingWarning"]
    url = "sqlite://" if store == "sqlite" else fresh_url()
    done = subprocess.run(
        [sys.executable, *strict, "-c", PROGRAM, url],
        env={**kept, **locale},
        capture_output=True,
        encoding="utf-8",
        errors="replace",
        check=False,
    )
    assert done.stdout.strip() == r"{'echo': '\xe9\u540d'}", done.stderr
