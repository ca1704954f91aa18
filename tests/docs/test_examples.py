"""Tests that every example, and the code in the README, runs as it stands and does what it says."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import runpy
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.waiting import PATIENCE

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = sorted(path.name for path in (ROOT / "examples").glob("*.py"))
README_CODE = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)
MOST_LINES = 100


def run(script: Path, folder: Path) -> list[str]:
    """The lines that a script printed; it has to end well, and to say nothing on stderr."""
    ran = subprocess.run(
        [sys.executable, "-W", "error", str(script)],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (ran.returncode, ran.stderr) == (0, ""), ran.stdout + ran.stderr
    return ran.stdout.splitlines()


def ask(port: int, method: str, path: str, body: object = None) -> Any:
    """What a server of this host answers."""
    headers = {"Content-Type": "application/json", "Idempotency-Key": "order"}
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)) as connection:
        connection.request(method, path, json.dumps(body), headers)
        return json.loads(connection.getresponse().read())


def test_an_order_that_cannot_be_shipped_is_undone_newest_first(tmp_path: Path) -> None:
    assert run(ROOT / "examples" / "order.py", tmp_path) == [
        "order 1: kettle went by bicycle",
        "order 2: 80 kg is more than the truck takes; undone: mail, charge, reserve",
        "in stock: {'kettle': 2, 'anvil': 1}, paid: 30",
        "1: your kettle is on its way",
        "2: your anvil is on its way",
        "2: sorry, your anvil cannot be shipped",
    ]


def test_a_sign_off_escalates_when_the_manager_is_silent(tmp_path: Path) -> None:
    assert run(ROOT / "examples" / "signoff.py", tmp_path) == [
        "a laptop approved by the manager",
        "no answer: asked the director about a boat",
        "a boat turned down by the director",
    ]


def test_an_agent_asks_twice_and_goes_on_in_another_process(tmp_path: Path) -> None:
    assert run(ROOT / "examples" / "agent.py", tmp_path) == [
        "May I delete crash.core (9000 bytes)?",
        "  yes: accepted",
        "May I delete holiday.jpg (4000 bytes)?",
        "  no: accepted",
        "deleted: ['crash.core', 'notes.tmp'], kept: ['holiday.jpg', 'thesis.txt']",
        "in the folder: ['holiday.jpg', 'thesis.txt']",
    ]


def test_a_refund_that_is_paid_twice_after_a_crash_is_found(tmp_path: Path) -> None:
    assert run(ROOT / "examples" / "crashes.py", tmp_path) == [
        "trip: 19 crash points; undisturbed, it failed",
        "  ended: 17 alike, 2 otherwise",
        "not idempotent: a second call shows",
        "  undo room",
        "    died after the last line of undo room",
        '    the probe saw {"refunded": 160, "seats": 0} instead of {"refunded": 80,',
        '      "seats": 0}',
        "ended otherwise, too: 1 place",
        "  before the commit of undo room",
        "called again after a crash (number of places): seat (2), room (2), pay (1), undo",
        "  room (2), undo seat (2)",
        "",
        "with the key: 19 crash points, all alike",
    ]


def test_an_import_goes_on_in_chunks_and_names_its_bad_rows(tmp_path: Path) -> None:
    for _ in range(2):  # the second time with the same key, which is the same run
        assert run(ROOT / "examples" / "import_rows.py", tmp_path) == [
            "250 rows, 1 bad",
            "  41: InvalidOperation([<class 'decimal.ConversionSyntax'>])",
        ]


def test_a_subscription_is_billed_each_month_once_over_two_workers(tmp_path: Path) -> None:
    lines = run(ROOT / "examples" / "billing.py", tmp_path)

    assert [line for line in lines if line.startswith("month")] == [
        "month 1: Ada pays 10 of 10",
        "month 2: Ada pays 10 of 10",
        "month 3: Ada pays 10 of 10",
        "month 4: Ada pays 5 of 10",
    ]
    assert lines.index("the first worker is gone") >= 2
    assert "the run is running, and wakes by itself: True" in lines
    assert lines[-1] == "Ada: closed in month 4, out of credit"


@pytest.mark.slow
def test_a_shop_behind_flask_is_served_with_its_worker_in_one_process(tmp_path: Path) -> None:
    server = subprocess.Popen(
        [sys.executable, str(ROOT / "examples" / "flask_orders.py")],
        cwd=tmp_path,
        env=os.environ | {"PORT": "0"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert server.stderr is not None
    port = next(int(found[1]) for line in server.stderr if (found := re.search(r"http://127\.0\.0\.1:(\d+)", line)))
    try:
        started = ask(port, "POST", "/orders", {"item": "kettle"})
        assert ask(port, "POST", f"/orders/{started['id']}/approval") == {"accepted": True}
        assert ask(port, "GET", f"/orders/{started['id']}/results")["ship"] == "kettle is on its way"
        assert ask(port, "GET", f"/orders/{started['id']}")["status"] == "completed"
        server.send_signal(signal.SIGINT)
        server.stderr.read()
        assert server.wait(PATIENCE) == 0
    finally:
        server.kill()
        server.wait()
        server.stderr.close()


def test_a_shop_in_django_starts_an_order_once_for_a_key(tmp_path: Path) -> None:
    assert run(ROOT / "examples" / "django_shop.py", tmp_path) == [
        "orders: [202, 200]",
        "{'accepted': True}",
        "shipped: a kettle, approved by Ada",
        "cart-7 completed [('charge', 'completed'), ('approval', 'completed'), ('ship', 'completed')]",
    ]


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_is_short_and_says_how_it_is_run(name: str) -> None:
    text = (ROOT / "examples" / name).read_text(encoding="utf-8")

    assert text.count("\n") < MOST_LINES
    assert f"    python examples/{name}\n" in text


def test_each_example_has_a_test_of_its_own() -> None:
    tested = set(re.findall(r'"examples" / "(\w+\.py)"', Path(__file__).read_text(encoding="utf-8")))

    assert tested == set(EXAMPLES)


def test_the_code_in_the_readme_runs(tmp_path: Path) -> None:
    _, code = README_CODE.findall((ROOT / "README.md").read_text(encoding="utf-8"))
    script = tmp_path / "signup.py"
    script.write_text(code, encoding="utf-8")

    assert run(script, tmp_path) == ["Welcome, ada@example.org!"]
    assert run(script, tmp_path) == ["Welcome, ada@example.org!"], "the same key is the same run, and its result stays"


async def test_the_service_in_the_readme_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code, _ = README_CODE.findall((ROOT / "README.md").read_text(encoding="utf-8"))
    script = tmp_path / "service.py"
    script.write_text(code, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    service = runpy.run_path(str(script))
    assert code.count("\n") < 40

    async with (
        service["api"].router.lifespan_context(service["api"]),
        httpx.AsyncClient(transport=httpx.ASGITransport(service["api"]), base_url="http://shop") as client,
    ):
        given = {"item": "kettle", "price": "19.90"}
        assert (await client.post("/orders/order", json=given)).status_code == 401
        client.headers["Authorization"] = "Bearer secret"
        run_id = (await client.post("/orders/order", json=given)).json()["run_id"]
        await client.post(f"/orders/{run_id}/signals/approval", json=True)
        assert (await service["shop"].result(run_id, 60))["ship"] == "kettle, paid 19.90"


def test_the_orders_behind_fastapi_have_their_types_in_the_openapi_document(tmp_path: Path) -> None:
    code = (
        "import runpy, sys; api = runpy.run_path(sys.argv[1])['api']; "
        "print(*sorted(api.openapi()['components']['schemas']['Order']['properties']), *api.openapi()['paths'])"
    )
    printed = subprocess.run(
        [sys.executable, "-W", "error", "-c", code, str(ROOT / "examples" / "fastapi_orders.py")],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    ).stdout.split()

    assert printed[:3] == ["item", "price", "quantity"]
    assert "/orders/order" in printed
