-- name: numbers
-- The numbers of names, as one JSON object; those that have none are left out.
SELECT json_group_object(name, number) FROM stepwell_names WHERE name IN (SELECT value FROM json_each(:names))

-- name: add_names
-- Gives numbers to names.
INSERT INTO stepwell_names (name) SELECT value FROM json_each(:names)

-- name: append
-- As `extend`, of advances with one usual row.
UPDATE stepwell_runs AS r
SET seq = r.seq + 1, position = v.position, crashes = 0, wake_at = NULL, awaiting = NULL, parked_at = NULL,
    damaged = NULL, damaged_by = NULL, damage_count = NULL, updated_at = given.now
FROM {given(now, worker)}, {v(ref, token, seq, position)}
WHERE r.ref = v.ref AND r.worker = given.worker AND r.token = v.token AND r.seq = v.seq

-- name: extend
-- Lean advances: runs that stay with their worker, each only if it is owned and as long as the advance says.
UPDATE stepwell_runs AS r
SET seq = r.seq + v.n, position = v.position, crashes = 0, wake_at = NULL, awaiting = NULL, parked_at = NULL,
    damaged = NULL, damaged_by = NULL, damage_count = NULL, updated_at = given.now
FROM {given(now, worker)}, {v(ref, token, seq, n, position)}
WHERE r.ref = v.ref AND r.worker = given.worker AND r.token = v.token AND r.seq = v.seq

-- name: finish
-- The same, which also end their runs as completed. It is apart because to set a column costs its index an entry.
UPDATE stepwell_runs AS r
SET seq = r.seq + 1, position = v.position, crashes = 0, wake_at = NULL, awaiting = NULL, parked_at = NULL,
    damaged = NULL, damaged_by = NULL, damage_count = NULL, updated_at = given.now,
    status = 'completed', worker = NULL, due_at = NULL, finished_at = given.now
FROM {given(now, worker)}, {v(ref, token, seq, position)}
WHERE r.cancel_requested_at IS NULL
    AND r.ref = v.ref AND r.worker = given.worker AND r.token = v.token AND r.seq = v.seq

-- name: change
-- Advances of every other sort: they also set what the run waits for, or let go of it. One that rests on the absence of
-- a message is refused when such a message is behind those that were seen; one that lets go of its run, when a cancel was
-- requested of which it does not know.
UPDATE stepwell_runs AS r
SET seq = r.seq + v.n, position = v.position, status = v.status, worker = v.worker, due_at = v.due_at,
    wake_at = v.wake_at, awaiting = v.awaiting, parked_at = v.parked_at, finished_at = v.finished_at,
    damaged = NULL, damaged_by = NULL, damage_count = NULL, crashes = CASE WHEN v.n > 0 THEN 0 ELSE r.crashes END,
    updated_at = given.now
FROM {given(now, worker)}, {v(ref, token, seq, n, seen, unless_asked, position, status, worker, due_at, wake_at,
    awaiting, parked_at, finished_at, absent_kind, absent_names)}
WHERE r.ref = v.ref AND r.worker = given.worker AND r.token = v.token AND r.seq = v.seq
    AND (NOT v.unless_asked OR r.cancel_requested_at IS NULL)
    AND (v.absent_kind IS NULL OR v.seen = r.messages OR (v.seen < r.messages AND NOT EXISTS (
        SELECT 1 FROM stepwell_mailbox AS m
        WHERE m.ref = v.ref AND m.kind = v.absent_kind AND m.name IN (SELECT value FROM json_each(v.absent_names))
            AND NOT m.taken AND m.n > v.seen)))

-- name: add_usual_rows
-- Journal rows of steps that completed at their first attempt, by one worker; a conflict is a bug, and loud.
INSERT INTO stepwell_journal (worker, ref, {journal.unusual})
SELECT given.worker, x.* FROM {given(worker)}, {x(ref, {journal.unusual})} WHERE x.ref IS NOT NULL

-- name: add_rows
-- Journal rows of every sort; a conflict is a bug, and loud.
INSERT INTO stepwell_journal (ref, {journal.columns}) SELECT * FROM {x(ref, {journal.columns})} WHERE ref IS NOT NULL

-- name: fences
-- What the verdict on an advance rests on.
SELECT worker, token, seq, messages, cancel_requested_at FROM stepwell_runs WHERE ref = :ref

-- name: take_message
-- A message that an outcome used, or a wait refused: its payload is in the journal now. The key of a refused one is free.
UPDATE stepwell_mailbox AS m SET taken = 1, value = NULL, error = NULL, key = CASE WHEN NOT v.frees THEN m.key END
FROM {v(ref, n, frees)} WHERE m.ref = v.ref AND m.n = v.n

-- name: recount
-- The last refused rows of waits count those that were refused after them.
UPDATE stepwell_journal AS j SET detail = v.detail
FROM {v(ref, seq, detail)} WHERE j.ref = v.ref AND j.seq = v.seq AND j.status = 'refused'

-- name: add_ends
-- The ends of children in their parents' mailboxes, as add_message; of one parent's children one at a time.
INSERT INTO stepwell_mailbox (ref, n, kind, name, value, error, sender)
SELECT r.ref, max(r.messages + 1, (SELECT coalesce(max(m.n), 0) + 1 FROM stepwell_mailbox AS m WHERE m.ref = r.ref)),
    'child', v.name, v.value, v.error, v.sender
FROM {v(parent_id, name, value, error, sender)} CROSS JOIN stepwell_runs AS r ON r.id = v.parent_id
WHERE r.status NOT IN ('completed', 'failed', 'canceled')

-- name: tell_parent
-- The end of a child reaches its parent, unless that has ended; it is due if it is parked for a child.
UPDATE stepwell_runs AS r
SET messages = r.messages + 1, updated_at = given.now,
    due_at = CASE WHEN r.worker IS NULL AND r.status = 'suspended' AND r.awaiting IS NULL THEN given.turn ELSE r.due_at END,
    status = CASE WHEN r.worker IS NULL AND r.status = 'suspended' AND r.awaiting IS NULL THEN 'running' ELSE r.status END
FROM {given(now, turn)}, {v(parent_id)}
WHERE r.id = v.parent_id AND r.status NOT IN ('completed', 'failed', 'canceled')

-- name: add_message
-- A message in a run's mailbox, behind all that are there, however many the run's row counts.
INSERT INTO stepwell_mailbox (ref, n, kind, name, value, error, key, delivered_at, receipt, sender)
VALUES (:ref, max(:n, (SELECT coalesce(max(n), 0) + 1 FROM stepwell_mailbox WHERE ref = :ref)), :kind, :name, :value,
    :error, :key, :delivered_at, :receipt, :sender)
