"""`Tuning`: the times and sizes of engine and stores that no user needs to set.

They are no constants of modules, so that a test gives a runtime with others instead of overwriting private names. Where
a figure was measured, its reason stands beside it.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Tuning:
    """Times in seconds, sizes in bytes."""

    longest_wait_seconds: float = 5.0
    """A worker that hears nothing looks for due runs this often: what it was not told of waits at most so long."""
    answers_seconds: float = 1.0
    """While handlers of a run are in flight beside work that is suspended, its mailbox is looked at this often."""
    quick_seconds: float = 2.0
    """How long leaving may still take once it is cancelled, by the deadline of a shutdown or a second Ctrl-C."""
    turn_seconds: float = 0.003
    """For so long handlers are called in one turn of the event loop, before its other work; 0: one handler a turn."""
    most_held_bytes: int = 256 * 2**20
    """With this many bytes of values in its runs a worker claims no further run."""
    crowded_bytes: int = 320 * 2**20
    """With more than this a run leaves its worker before its next call, unless it is the only one."""

    connect_seconds: float = 10.0
    """For a connection to PostgreSQL, where the URL says nothing."""
    answer_seconds: float = 10.0
    """An answer of PostgreSQL's that takes longer counts as lost: half-open connections never tell."""
    long_answer_seconds: float = 30.0
    """The same where others' locks are waited for, or much is read."""
    heartbeat_answer_seconds: float = 5.0
    """The same for a heartbeat."""
    notification_seconds: float = 5.0
    """The same for a notification that is sent."""
    idle_transaction_seconds: float = 15.0
    """PostgreSQL ends a transaction in which a stopped process has left its locks."""
    crowded_out_seconds: float = 30.0
    """How long to do with the connections there are before the server is asked for another one."""
    hear_seconds: float = 1.0
    """How long one wait for a notification lasts."""
    trust_seconds: float = 2.0
    """Where notifications are heard, a look without one comes this often."""
