"""The invariants after every transaction: what a commit changed in the tables, held against what stood there before.

Triggers of the connection tell which runs a transaction touched, so that a look costs what the change is large. The
tables alone are read: nothing that the engine says of itself is believed.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from stepwell.core.statuses import may_follow
from stepwell.store.codec import PLAIN
from stepwell.store.records import awaited_in
from tests.simulation.check import STRUCK
from tests.simulation.expected_path import JournalPath
from tests.simulation.trace import kind_of, outcome_name

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable

    from tests.simulation.designs import Design

ENDED = {"completed", "failed", "canceled"}
_CHANGED, _DELETED, _LEFT = -1, -2, -3
TRIGGERS = f"""
CREATE TEMP TABLE touched (ref INTEGER PRIMARY KEY);
CREATE TEMP TRIGGER run_added AFTER INSERT ON stepwell_runs BEGIN INSERT OR IGNORE INTO touched VALUES (new.ref); END;
CREATE TEMP TRIGGER run_changed AFTER UPDATE ON stepwell_runs BEGIN INSERT OR IGNORE INTO touched VALUES (new.ref); END;
CREATE TEMP TRIGGER run_gone AFTER DELETE ON stepwell_runs BEGIN INSERT OR IGNORE INTO touched VALUES ({_DELETED}); END;
CREATE TEMP TRIGGER row_added AFTER INSERT ON stepwell_journal
BEGIN INSERT OR IGNORE INTO touched VALUES (new.ref); END;
CREATE TEMP TRIGGER row_changed AFTER UPDATE ON stepwell_journal
BEGIN INSERT OR IGNORE INTO touched VALUES ({_CHANGED}); END;
CREATE TEMP TRIGGER row_gone AFTER DELETE ON stepwell_journal
BEGIN INSERT OR IGNORE INTO touched VALUES ({_DELETED}); END;
CREATE TEMP TRIGGER mail_added AFTER INSERT ON stepwell_mailbox
BEGIN INSERT OR IGNORE INTO touched VALUES (new.ref); END;
CREATE TEMP TRIGGER mail_changed AFTER UPDATE ON stepwell_mailbox
BEGIN INSERT OR IGNORE INTO touched VALUES (new.ref); END;
CREATE TEMP TRIGGER worker_left AFTER DELETE ON stepwell_workers
BEGIN INSERT OR IGNORE INTO touched VALUES ({_LEFT}); END;
"""
_RUN = """
SELECT id, workflow, key, status, position, worker, token, seq, messages, crashes, due_at, awaiting, wake_at, parent_id,
    parent_node, cancel_requested_at FROM stepwell_runs WHERE ref = ?
"""
_ROWS = """
SELECT j.rowid, ref, seq, node.name, item, phase, n, coalesce(kind, 'step'), coalesce(attempt, 1),
    coalesce(status, 'completed'), detail, error, worker.name, retry_at, j.name, CASE WHEN j.name <> '' THEN value END
FROM stepwell_journal AS j
JOIN stepwell_names AS node ON node.number = j.node JOIN stepwell_names AS worker ON worker.number = j.worker
WHERE j.rowid > ? ORDER BY j.rowid
"""
_MAIL = "SELECT n, kind, name, taken FROM stepwell_mailbox WHERE ref = ? ORDER BY n"


class Row(NamedTuple):
    """A journal row, as far as it matters here."""

    rowid: int
    ref: int
    seq: int
    node: str
    item: str
    phase: str
    n: int
    kind: str
    attempt: int
    status: str
    detail: bytes | None
    error: bytes | None
    worker: str
    retry_at: int | None
    name: str
    value: bytes | None
    """Of a sub-step alone."""


class Standing(NamedTuple):
    """How a run stands in its row."""

    run_id: str
    workflow: str
    key: str | None
    status: str
    position: int
    worker: str | None
    token: int
    seq: int
    messages: int
    crashes: int
    due_at: int | None
    awaiting: str | None
    wake_at: int | None
    parent_id: str | None
    parent_node: str | None
    cancel_requested_at: int | None


_UNBORN = Standing("", "", None, "", 0, None, 0, 0, 0, 0, None, None, None, None, None, None)


@dataclass(slots=True)
class Watched:
    """A run as it was when it was last looked at."""

    track: JournalPath
    now: Standing = _UNBORN
    mailbox: dict[int, tuple[str, str, int]] = field(default_factory=dict)
    children: dict[str, str] = field(default_factory=dict)
    earliest: dict[str, int] = field(default_factory=dict)
    """The store's instants before which the next attempt, or the next iteration, may not begin."""
    sub_steps: dict[tuple[str, str], bytes | None] = field(default_factory=dict)
    """What is journaled of sub-steps, by the place of their work and their name."""


class Watch:
    """Looks after each transaction; `found` is what should not be."""

    def __init__(
        self, connection: sqlite3.Connection, designs: dict[str, Design], max_crashes: int, refused: set[str]
    ) -> None:
        self.found: list[str] = []
        self.transitions: Counter[tuple[str, str]] = Counter()
        self.seen: Counter[str] = Counter()
        self.imposed: set[tuple[str, str, str, int | None]] = set()
        self.on_look: Callable[[object], None] | None = None
        self.looks = 0
        self._connection = connection
        self._designs = designs
        self._max_crashes = max_crashes
        self._refused = refused
        self._runs: dict[int, Watched] = {}
        self._by_id: dict[str, Watched] = {}
        self._keys: dict[tuple[str, str], str] = {}
        self._changes = connection.total_changes
        self._last_row = 0
        self._gone: set[int] = set()
        self.wall: Callable[[], int] | None = None
        """The store's instant, where clocks do not jump."""

    def forget(self, ref: int) -> None:
        """The run's row is about to be deleted by hand: what is left of it is nobody's."""
        self._gone.add(ref)
        watched = self._runs.pop(ref, None)
        if watched is not None and watched.now.key is not None:
            del self._keys[watched.now.workflow, watched.now.key]

    def look(self) -> None:
        """Holds what the last transaction changed against what stood there before."""
        connection = self._connection
        if connection.total_changes == self._changes:
            return
        touched = [ref for (ref,) in connection.execute("SELECT ref FROM touched")]
        if touched:
            self.looks += 1
            connection.execute("DELETE FROM touched")
            self._look_at(touched)
        self._changes = connection.total_changes

    def began(self, run_id: str, phase: str, step: str, iteration: int | None) -> tuple[tuple[str, ...], int]:
        """A user's function is called; what is journaled now, and how many of its own attempts have failed."""
        watched = self._by_id.get(run_id)
        if watched is None:
            self._say("I7", run_id, f"{phase} of {step} began in a run that is not stored")
            return (), 0
        place = f"{kind_of(phase)}:{step}:{'' if iteration is None else iteration}"
        track = watched.track
        return tuple(track.journaled), track.tries.get(place, 0)

    def sub_may_begin(self, run_id: str, phase: str, step: str, iteration: int | None, name: str) -> None:
        """What must hold when the function of a sub-step is called (I17)."""
        if (_place(phase, step, iteration), name) in self._by_id[run_id].sub_steps:
            self._say("I17", run_id, f"{name} of {phase} of {step} was called again after it was journaled")

    def sub_was_given(  # noqa: PLR0917  as they are told
        self, run_id: str, phase: str, step: str, iteration: int | None, name: str, token: str
    ) -> None:
        """What must hold when a handler goes on with a sub-step's value (I2, I17)."""
        stored = self._by_id[run_id].sub_steps.get((_place(phase, step, iteration), name))
        if stored is None:
            self._say("I2", run_id, f"{phase} of {step} went on before {name} was journaled")
        elif PLAIN.decode(stored) != token:
            self._say("I17", run_id, f"{phase} of {step} was given {token} as {name}, journaled is {stored!r}")

    def may_begin(self, run_id: str, phase: str, step: str, iteration: int | None, attempt: int) -> None:
        """What must hold when somebody who knows of no reason to stop calls a user's function (I1, I2, I5)."""
        watched = self._by_id[run_id]
        wrong = watched.track.objection(phase, step, iteration, attempt)
        if wrong is not None:
            self._say(wrong[0], run_id, wrong[1])
        place = f"{kind_of(phase)}:{step}:{'' if iteration is None else iteration}"
        if self.wall is not None and self.wall() < watched.earliest.get(place, 0):
            early = (watched.earliest[place] - self.wall()) / 1_000_000
            self._say("timer", run_id, f"attempt {attempt} of {place} began {early:.6f} s too early")
        if watched.now.crashes >= self._max_crashes and phase in {"do", "undo"} and watched.now.status not in ENDED:
            self._say("crashes", run_id, f"{phase} of {step} began though {watched.now.crashes} workers died during it")

    def _look_at(self, touched: list[int]) -> None:
        connection = self._connection
        rows: dict[int, list[Row]] = {}
        for row in connection.execute(_ROWS, (self._last_row,)).fetchall():
            one = Row(*row)
            rows.setdefault(one.ref, []).append(one)
            self._last_row = one.rowid
        looked: list[Watched] = []
        for ref in touched:
            if ref in self._gone:
                if rows.pop(ref, []) or connection.execute(_RUN, (ref,)).fetchone():
                    self._say("I3", "", f"something was written for run {ref}, which was deleted")
            elif ref == _DELETED and self._gone:
                continue
            elif ref > 0:
                looked.append(self._look_at_run(ref, rows.pop(ref, [])))
            elif ref == _LEFT:
                self._look_at_workers()
            else:
                self._say("I7", "", "journal rows were changed" if ref == _CHANGED else "rows were deleted")
        if rows:
            self._say("I3", "", f"rows of runs that do not exist: {rows}")
        for watched in looked:
            self._check_that_it_moves(watched)
            parent = self._by_id.get(watched.now.parent_id or "")
            if parent is not None:
                self._check_that_it_moves(parent)

    def _look_at_run(self, ref: int, rows: list[Row]) -> Watched:
        connection = self._connection
        now = Standing(*connection.execute(_RUN, (ref,)).fetchone())
        watched = self._runs.get(ref)
        if watched is None:
            watched = self._add(ref, now)
        before = watched.now
        watched.now = now
        watched.track.is_canceling = now.cancel_requested_at is not None
        if before is not _UNBORN:
            self._check_change(before, now, rows)
        for row in rows:
            self._check_row(watched, before, row)
            self._check_timer(before, row)
            self._keep_earliest(watched, row)
        if now.seq != watched.track.seq:
            self._say("I2", now.run_id, f"its row counts {now.seq} entries, its journal has {watched.track.seq}")
        if now.status not in ENDED and now.position != watched.track.at:
            self._say("I2", now.run_id, f"it is at {now.position}, by its journal at {watched.track.at}")
        if now.messages != before.messages or rows:
            self._check_mail(ref, watched, now, rows)
        if self.on_look is not None:
            self.on_look((now, [(*row[:-5], row.error and _type_of(row), row.worker) for row in rows]))
        return watched

    def _add(self, ref: int, now: Standing) -> Watched:
        """A new run (I8, I10)."""
        watched = Watched(JournalPath(self._designs[now.workflow]))
        self._runs[ref] = self._by_id[now.run_id] = watched
        self.transitions["", now.status] += 1
        if now.key is not None and self._keys.setdefault((now.workflow, now.key), now.run_id) != now.run_id:
            self._say("I10", now.run_id, f"the key {now.key} has another run, {self._keys[now.workflow, now.key]}")
        if now.parent_id is not None and now.parent_node is not None:
            parent = self._by_id.get(now.parent_id)
            if parent is None or parent.now.status in ENDED:
                self._say("I9", now.run_id, f"it was spawned by {now.parent_id}, which has ended or is not stored")
            elif parent.children.setdefault(now.parent_node, now.run_id) != now.run_id:
                self._say("I8", now.run_id, f"a second child of {now.parent_id} at {now.parent_node}")
        return watched

    def _check_change(self, before: Standing, now: Standing, rows: list[Row]) -> None:
        """The run's row: its status by the table alone, its owner by its token, its crashes by burials alone."""
        if before.status != now.status:
            self.transitions[before.status, now.status] += 1
            if not may_follow(before.status, now.status):  # type: ignore[arg-type]  # a status is what the table holds
                self._say("I9", now.run_id, f"{before.status} became {now.status}")
        if before.status in ENDED and (rows or now._replace(messages=before.messages) != before):
            self._say("I9", now.run_id, f"it has ended, and changed: {before}, {now}, {rows}")
        taken = now.token - before.token
        if taken not in {0, 1}:
            self._say("I3", now.run_id, f"its token went from {before.token} to {now.token}")
        elif now.worker != before.worker and taken != 1 and now.worker is not None:
            self._say("I3", now.run_id, f"it went from {before.worker} to {now.worker} under the same token")
        if now.worker is not None and now.worker != before.worker:
            self._check_owner(now)
        if rows and taken:
            self._say("I3", now.run_id, "entries were written while its owner changed")
        if now.crashes not in ({0} if rows else {before.crashes, before.crashes + (now.worker is None and taken == 1)}):
            self._say("crashes", now.run_id, f"{before.crashes} became {now.crashes} with {len(rows)} rows")

    def _check_owner(self, now: Standing) -> None:
        if now.status in ENDED:
            self._say("I9", now.run_id, f"{now.worker} claimed it after its end")
        found = self._connection.execute("SELECT 1 FROM stepwell_workers WHERE id = ?", (now.worker,)).fetchone()
        if found is None:
            self._say("I4", now.run_id, f"{now.worker}, who is not registered, claimed it")

    def _check_row(self, watched: Watched, before: Standing, row: Row) -> None:
        """A new entry: by its owner, in its place, once."""
        if before.worker != row.worker:
            self._say("I3", before.run_id, f"{row.worker} wrote {row.node} {row.status}; its owner was {before.worker}")
        self.seen[f"{row.kind} {row.status}"] += 1
        if row.name:
            self._check_sub_step(watched, before, row)
            return
        wrong = watched.track.add(row.seq, row.node, row.item, row.phase, row.n, row.kind, row.status, row.detail)
        if wrong is not None:
            self._say(wrong[0], before.run_id, wrong[1])
        if row.error is not None and _type_of(row) in {"GivenUpError", "Retry"}:
            self.seen[_type_of(row)] += 1
        if row.error is not None and row.n == 0:
            self._check_strike(before, row, _type_of(row))

    def _check_sub_step(self, watched: Watched, before: Standing, row: Row) -> None:
        """A sub-step: in its place, once, while its work has no outcome (I17)."""
        wrong = watched.track.add_sub_step(row.seq, row.node, row.item, row.phase)
        if wrong is not None:
            self._say(wrong[0], before.run_id, wrong[1])
        place = outcome_name(row.node, row.item, row.phase, "step")
        if watched.sub_steps.setdefault((place, row.name), row.value) is not row.value:
            self._say("I17", before.run_id, f"{row.name} of {place} was journaled twice")
        if (row.kind, row.status, row.n) != ("sub", "completed", 0):
            self._say("I17", before.run_id, f"{row.name} of {place} is a {row.kind} {row.status} {row.n}")

    def _check_timer(self, before: Standing, row: Row) -> None:
        """What waited for an instant did not end before it, by the store's clock."""
        ends = row.kind in {"sleep", "signal"} and row.n == 0 and row.status != "skipped"
        if self.wall is None or not ends or before.wake_at is None or before.worker is None:
            return
        timed_out = row.error is not None and _type_of(row) == "SignalTimeout"
        if (row.kind == "sleep" or timed_out) and self.wall() < before.wake_at:
            early = (before.wake_at - self.wall()) / 1_000_000
            self._say("timer", before.run_id, f"{row.node} ended {early:.6f} s too early")

    def _keep_earliest(self, watched: Watched, row: Row) -> None:
        name = outcome_name(row.node, row.item, row.phase, row.kind)
        if row.retry_at is not None:
            watched.earliest[name] = row.retry_at
        if row.item.startswith("#") and row.phase == "do" and (row.detail or b"").startswith(b"next "):
            following = outcome_name(row.node, f"#{int(row.item[1:]) + 1}", row.phase, row.kind)
            watched.earliest[following] = int((row.detail or b"").split(b" ", 2)[1])

    def _check_strike(self, before: Standing, row: Row, kind: str) -> None:
        """A failure that no act tells: only after so many crashes, or a refusal."""
        if kind not in STRUCK:
            return
        iteration = int(row.item[1:]) if row.item.startswith("#") else None
        name = row.item if row.item and iteration is None else row.node
        self.imposed.add((before.run_id, name, row.kind, iteration))
        self.seen[kind] += 1
        if kind == "Abandoned" and not self._by_id[before.run_id].track.has_failed:
            self._say("I5", before.run_id, f"{name} was given up though nothing had failed")
        if kind == "RunCanceled" and before.cancel_requested_at is None:
            self._say("I9", before.run_id, f"{name} was given up for a cancel that was not requested")
        if kind == "CrashLimit" and before.crashes < self._max_crashes:
            self._say("crashes", before.run_id, f"{name} failed after {before.crashes} of {self._max_crashes} crashes")
        if kind == "IntegrityError" and before.run_id not in self._refused:
            self._say("refused", before.run_id, f"{name} failed as refused, and nothing of it was")

    def _check_mail(self, ref: int, watched: Watched, now: Standing, rows: list[Row]) -> None:
        """Mail is numbered, stays, and is used once, with the outcome that used it (I6, I8)."""
        mailbox = {
            n: (kind, name, taken) for n, kind, name, taken in self._connection.execute(_MAIL, (ref,)).fetchall()
        }
        if [*mailbox] != list(range(1, now.messages + 1)):
            self._say("I6", now.run_id, f"it had {now.messages} messages, its mailbox has {[*mailbox]}")
        used = 0
        for n, message in watched.mailbox.items():
            if message[2] and not mailbox[n][2]:
                self._say("I6", now.run_id, f"message {n} was used, and is unread again")
            used += mailbox[n][2] - message[2]
        outcomes = sum(row.n == 0 or row.status == "suspended" for row in rows if row.phase == "do")
        if used > outcomes:
            self._say("I6", now.run_id, f"{used} messages were used by {outcomes} outcomes")
        ends = Counter(name for kind, name, _ in mailbox.values() if kind == "child")
        if any(count > 1 for count in ends.values()):
            self._say("I8", now.run_id, f"the end of a child came twice: {ends}")
        watched.mailbox = mailbox

    def _check_that_it_moves(self, watched: Watched) -> None:
        """It has ended, or is due, or is somebody's, or waits for something that can still come (I4)."""
        now = watched.now
        if now.status in ENDED or now.worker is not None or now.due_at is not None:
            return
        if now.awaiting is not None:
            awaited = awaited_in(now.awaiting)
            unread = [n for n, (_, name, taken) in watched.mailbox.items() if name in awaited and not taken]
            if unread:
                self._say("I4", now.run_id, f"it waits for {now.awaiting} beside unread messages {unread}")
        elif not any(self._by_id[child].now.status not in ENDED for child in watched.children.values()):
            self._say("I4", now.run_id, f"it is {now.status}, and waits for nothing that can come: {now}")

    def _look_at_workers(self) -> None:
        """Whoever left holds no run."""
        enlisted = {worker for (worker,) in self._connection.execute("SELECT id FROM stepwell_workers")}
        held = "SELECT DISTINCT worker FROM stepwell_runs WHERE worker IS NOT NULL"
        left = {worker for (worker,) in self._connection.execute(held)} - enlisted
        if left:
            self._say("I4", "", f"{left} hold runs, and are not registered")

    def _say(self, what: str, run_id: str, text: str) -> None:
        self.found.append(f"{what}: {text} [run {run_id}]")


def _type_of(row: Row) -> str:
    """The type of a failure: its traceback names files, and is another one elsewhere."""
    return PLAIN.decode_failure(row.error or b"", row.node).type


def _place(phase: str, step: str, iteration: int | None) -> str:
    return f"{kind_of(phase)}:{step}:{'' if iteration is None else iteration}"
