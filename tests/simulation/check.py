"""The invariants, checked on a trace when it is over: the journals against the model, and against the handlers' log."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import TYPE_CHECKING, Any

from tests.simulation.acts import without_tokens
from tests.simulation.check_calls import check_calls
from tests.simulation.model import ChildEnd, Expected, ExpectedPath, Key, expected_path_of

if TYPE_CHECKING:
    from stepwell import Entry
    from tests.simulation.trace import Trace

OUTCOMES = ("completed", "failed", "skipped")
STRUCK = ("CrashLimit", "IntegrityError", "Abandoned", "RunCanceled")


def violations(trace: Trace) -> list[str]:
    """Everything in the trace that should not be; each begins with the number of what it breaks."""
    found: list[str] = []
    for run_id in trace.snapshots:
        check = RunCheck(trace, run_id)
        check.check()
        found += [f"{text} [run {run_id} of {trace.snapshots[run_id].workflow_name}]" for text in check.found]
    return found


def key_of(entry: Entry) -> Key:
    """What the entry is about."""
    return (entry.node, entry.kind, entry.iteration)


class _Facts:
    """What came from outside, as the trace has it."""

    def __init__(self, trace: Trace, run_id: str) -> None:
        self._trace = trace
        self._children = trace.children(run_id)
        self._letters = defaultdict[str, list[Any]](list)
        for letter in trace.letters.get(run_id, ()):
            self._letters[letter.name].append(letter.payload)
        self._outcomes = {entry.node: entry for entry in trace.journals[run_id] if entry.kind == "signal"}
        self._struck = {
            key_of(entry): entry.error.type
            for entry in trace.journals[run_id]
            if entry.error is not None and (run_id, *key_of(entry)) in trace.imposed
        }
        self.used = Counter[str]()

    def imposed(self, key: Key) -> str | None:
        """As the trace has it."""
        return self._struck.get(key)

    @property
    def is_struck(self) -> bool:
        """Whether anything of the run was."""
        return bool(self._struck)

    def letter(self, signal: str) -> Any:
        """The next accepted letter of that name."""
        letters = self._letters[signal]
        if self.used[signal] >= len(letters):
            return None
        self.used[signal] += 1
        return (letters[self.used[signal] - 1],)

    def times_out(self, node: str) -> bool:
        """Whether the journal has the default, or the failure."""
        entry = self._outcomes.get(node)
        if entry is None:
            return False
        failed = entry.error is not None and entry.error.type == "SignalTimeout"
        return failed or entry.result == {"default": node}

    def child(self, workflow: str) -> ChildEnd | None:
        """The end of the oldest child that was not asked for yet."""
        if not self._children:
            return None
        child = self._trace.snapshots[self._children.pop(0)]
        if child.workflow_name != workflow:
            return ChildEnd(f"of another workflow, {child.workflow_name}")
        message = "" if child.error is None else child.error.message
        return ChildEnd(str(child.status), without_tokens(child.results), message)

    @property
    def strangers(self) -> list[str]:
        """Children that nobody asked for."""
        return self._children


class RunCheck:
    """One run against its model."""

    def __init__(self, trace: Trace, run_id: str) -> None:
        self.found: list[str] = []
        self._trace = trace
        self._run_id = run_id
        self._run = trace.snapshots[run_id]
        self._entries = [entry for entry in trace.journals[run_id] if entry.name is None]
        self._facts = _Facts(trace, run_id)
        self._path = expected_path_of(trace.designs[self._run.workflow_name], self._run.input, self._facts)
        self._outcomes = [entry for entry in self._entries if entry.status in OUTCOMES]
        self._forward = [entry for entry in self._outcomes if entry.kind != "compensate"]

    def check(self) -> None:
        """Fills `found`."""
        twice = [key for key, count in Counter(key_of(entry) for entry in self._outcomes).items() if count > 1]
        if twice:
            self._say("I1", f"outcomes journaled twice: {twice}")
        self._check_end()
        self._check_order()
        self._check_outcomes()
        self._check_attempts()
        self._check_compensation()
        self._check_outside()
        own = [line for line in self._trace.lines if line.run_id == self._run_id]
        self.found += check_calls(own, self._entries, self._path, self._trace)

    def _say(self, what: str, text: str) -> None:
        self.found.append(f"{what}: {text}")

    def _check_end(self) -> None:
        run, path = self._run, self._path
        status = str(run.status)
        if status == "canceled":
            if not self._was_told_to_cancel():
                self._say("I9", "canceled, though nobody asked for it")
            return
        if status not in {"completed", "failed"}:
            self._say("I4", f"is {status} at {run.current_node}, waits for {run.awaiting_signal}, until {run.wake_at}")
        elif status != path.end:
            self._say("end", f"is {status}, expected {path.end}; error {run.error}; {self._brief(path)}")
        elif status == "completed" and without_tokens(run.results) != without_tokens(path.results):
            self._say("end", f"results {run.results}, expected {path.results}")
        elif status == "failed":
            first = next((entry for entry in self._forward if entry.status == "failed"), None)
            if first is None or run.error != first.error:
                self._say("end", f"error {run.error} is not the first failure {first}")

    def _brief(self, path: ExpectedPath) -> str:
        return " ".join(f"{one.key}={one.status}" for stage in path.stages for one in stage)

    def _was_told_to_cancel(self) -> bool:
        return self._trace.is_asked(self._run_id, self._trace.cancel_asked)

    @property
    def _is_undone(self) -> bool:
        """Whether the run ended after all of it was undone that is to be undone."""
        plainly = self._trace.is_asked(self._run_id, self._trace.plainly_canceled)
        return str(self._run.status) == "failed" or (str(self._run.status) == "canceled" and not plainly)

    def _check_order(self) -> None:
        """Every outcome is in its stage, and no stage is left out (I2 as the journal tells it)."""
        stage_of = {one.key: at for at, stage in enumerate(self._path.stages) for one in stage}
        have = {key_of(entry) for entry in self._forward}
        reached = 0
        for entry in self._entries:
            at = stage_of.get(key_of(entry))
            if entry.kind == "compensate":
                continue
            if at is None:
                self._say("order", f"{key_of(entry)} {entry.status} is not expected; {self._brief(self._path)}")
            elif at < reached:
                self._say("I2", f"{key_of(entry)} {entry.status} comes after a later stage")
            else:
                reached = at
        whole = len(self._path.stages) if str(self._run.status) in {"completed", "failed"} else reached
        for stage in self._path.stages[:whole]:
            missing = [one.key for one in stage if one.status in OUTCOMES and one.key not in have and not one.optional]
            if missing:
                self._say("I2", f"outcomes missing: {missing}")

    def _check_outcomes(self) -> None:
        expected = {one.key: one for stage in self._path.stages for one in stage}
        for entry in self._forward:
            one = expected.get(key_of(entry))
            if one is None:
                continue
            failure = None if entry.error is None else entry.error.type
            if (entry.status, failure) != (one.status, one.failure):
                self._say("outcome", f"{key_of(entry)} {entry.status} {failure}, expected {one.status} {one.failure}")
            elif entry.status == "completed" and without_tokens(entry.result) != without_tokens(one.value):
                self._say("outcome", f"{key_of(entry)} gave {entry.result}, expected {one.value}")
            elif entry.attempt != one.last_attempt and failure not in STRUCK:
                self._say("attempt", f"{key_of(entry)} at attempt {entry.attempt}, expected {one.last_attempt}")

    def _check_attempts(self) -> None:
        """Failed attempts and suspensions are as many as the acts say: a crash is none."""
        rows = Counter((key_of(entry), entry.status) for entry in self._entries)
        for one in (one for stage in self._path.stages for one in stage):
            if one.failure in STRUCK:
                continue
            whole = (one.status in OUTCOMES and self._has(one)) or (
                one.status == "asked" and self._run.status == "completed"
            )
            for status, count in (("retrying", one.retrying), ("suspended", one.suspended)):
                seen = rows[one.key, status]
                if seen > count or (whole and seen != count):
                    own = [entry for entry in self._entries if (key_of(entry), entry.status) == (one.key, status)]
                    errors = [entry.error for entry in own]
                    self._say("attempt", f"{one.key} has {seen} {status} rows, expected {count}: {errors}")

    def _has(self, one: Expected) -> bool:
        return any(key_of(entry) == one.key for entry in self._forward)

    def _check_compensation(self) -> None:
        """What completed is undone once, newest first, and nothing else (I5)."""
        status = str(self._run.status)
        expected = {one.key: one for stage in self._path.stages for one in stage}
        done = [expected[key_of(entry)] for entry in self._forward if key_of(entry) in expected]
        wanted = [(one.key[0], one.key[2], *one.undone()) for one in reversed(done) if one.to_undo is not None]
        retries = Counter(
            (e.node, e.iteration) for e in self._entries if e.kind == "compensate" and e.status == "retrying"
        )
        undone = [entry for entry in self._outcomes if entry.kind == "compensate"]
        imposed = {(e.node, e.iteration) for e in undone if self._facts.imposed(key_of(e))}
        wanted = [(*one[:2], "failed", retries[one[:2]]) if one[:2] in imposed else one for one in wanted]
        told = [(entry.node, entry.iteration, entry.status, retries[entry.node, entry.iteration]) for entry in undone]
        if status == "completed":
            wanted = []
        if told != (wanted if status == "completed" or self._is_undone else wanted[: len(told)]):
            self._say("I5", f"undone {told}, expected {wanted}")
        self._check_attempted(expected, {(entry.node, entry.iteration) for entry in undone})
        kinds = [entry.kind == "compensate" for entry in self._entries]
        if kinds != sorted(kinds):
            self._say("I5", "something went forward after compensation began")
        names = tuple(entry.node for entry in undone if entry.status == "completed")
        if self._run.compensated != names:
            self._say("I5", f"compensated is {self._run.compensated}, the journal has {names}")

    def _check_attempted(self, expected: dict[Key, Expected], undone: set[tuple[str, int | None]]) -> None:
        """What was called, and is to be undone even if that failed, was undone once the run has ended (I5)."""
        if not self._is_undone:
            return
        for line in self._trace.lines:
            one = expected.get((line.step, "step", line.iteration))
            was_called = (line.run_id, line.event, line.phase) == (self._run_id, "begin", "do")
            if not was_called or one is None or one.attempted is None or line.who in self._trace.late:
                continue
            if (line.step, line.iteration) not in undone:
                self._say("I5", f"{line.step} {line.iteration or ''} may have happened, and was not undone")
            elif one.status != "completed":
                self._trace.attempted += 1

    def _check_outside(self) -> None:
        """Letters are used once and not lost (I6), children spawned once (I8), the canceled stay as they were (I9)."""
        letters = self._trace.letters.get(self._run_id, [])
        if str(self._run.status) != "canceled" and not self._facts.is_struck:
            for name, count in Counter(letter.name for letter in letters if letter.waited_for).items():
                if self._facts.used[name] < count:
                    self._say("I6", f"{count} resumes of {name} were accepted, {self._facts.used[name]} letters used")
        self._check_timeouts()
        if self._facts.strangers:
            self._say("I8", f"children that no node spawned: {self._facts.strangers}")
        frozen = self._trace.frozen.get(self._run_id)
        journal = self._trace.journals[self._run_id]
        if frozen is not None and frozen != journal:
            self._say("I9", f"{len(journal) - len(frozen)} entries were written after the cancel")

    def _check_timeouts(self) -> None:
        """No wait timed out that began when an unread letter was already accepted."""
        design = self._trace.designs[self._run.workflow_name]
        signals = {spec.name: spec.signal for spec in design.specs if hasattr(spec, "signal")}
        used = Counter[str]()
        for entry in self._forward:
            if entry.kind != "signal":
                continue
            name = signals[entry.node]
            if not self._facts.times_out(entry.node):
                used[name] += 1
                continue
            waiting = [one for one in self._trace.letters.get(self._run_id, ()) if one.name == name][used[name] :]
            if any(letter.answered_at < entry.started_at.timestamp() for letter in waiting):
                self._say("I6", f"{entry.node} timed out beside an unread letter")
