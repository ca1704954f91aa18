-- name: enlist
-- Registers a worker, with what it serves: the lanes as a JSON array.
INSERT INTO stepwell_workers (id, beat_at, started_at, host, pid, process, lanes, concurrency, lease)
VALUES (:id, :now, :now, :host, :pid, :process, :lanes, :concurrency, :lease) ON CONFLICT (id) DO NOTHING

-- name: serve
-- Notes the lanes that a worker serves now.
UPDATE stepwell_workers SET lanes = :lanes WHERE id = :id

-- name: beat
-- The worker is alive; no row: it was declared dead.
UPDATE stepwell_workers SET beat_at = :now WHERE id = :id

-- name: held
-- The runs leased to a worker with their tokens, as one JSON object.
SELECT json_group_object(id, token) FROM stepwell_runs WHERE worker = :worker

-- name: owned
-- The same, and those of them of which a cancel was requested.
SELECT json_group_object(id, token), json_group_array(id) FILTER (WHERE cancel_requested_at IS NOT NULL)
FROM stepwell_runs WHERE worker = :worker

-- name: list_workers
-- Every registered worker, and those that hold runs without being registered, which have no host and no beat. The index
-- is asked for one holder after the other, not for all the runs they hold.
WITH RECURSIVE holders (worker) AS (
    SELECT min(worker) FROM stepwell_runs WHERE worker IS NOT NULL
    UNION ALL
    SELECT (SELECT min(r.worker) FROM stepwell_runs AS r WHERE r.worker IS NOT NULL AND r.worker > h.worker)
    FROM holders AS h WHERE h.worker IS NOT NULL
)
SELECT id, beat_at, host, pid, process, lanes, concurrency, lease FROM stepwell_workers
UNION ALL
SELECT h.worker, NULL, '', 0, '', '[]', 0, 0 FROM holders AS h
WHERE h.worker IS NOT NULL AND NOT EXISTS (SELECT 1 FROM stepwell_workers AS w WHERE w.id = h.worker)
ORDER BY 1

-- name: delete_worker
-- Removes a worker that left.
DELETE FROM stepwell_workers WHERE id = :worker

-- name: delete_silent_worker
-- Removes a worker that is still silent.
DELETE FROM stepwell_workers WHERE id = :id AND beat_at < :silent_since

-- name: free_runs
-- Gives back the runs of a worker that left. One that is not parked waits for no instant any more: by that it is known,
-- here and below, from one that a commit let go of, with nothing in flight.
UPDATE stepwell_runs
SET worker = NULL, token = token + 1, due_at = :turn, updated_at = :now,
    wake_at = CASE WHEN parked_at IS NOT NULL THEN wake_at END
WHERE worker = :worker

-- name: park_damaged
-- Puts off a run whose rows its worker does not understand, twice as long each time, up to an hour.
UPDATE stepwell_runs
SET worker = NULL, token = token + 1, updated_at = :now, damaged = :reason, damaged_by = :validator,
    damage_count = coalesce(damage_count, 0) + 1, wake_at = CASE WHEN parked_at IS NOT NULL THEN wake_at END,
    due_at = :now + min(3600000000, 60000000 << min(coalesce(damage_count, 0), 6))
WHERE ref = :ref AND worker = :worker AND token = :token
RETURNING damage_count

-- name: recheck_damaged
-- Makes damaged runs due that another release or definition judged.
UPDATE stepwell_runs SET due_at = :turn, updated_at = :now
WHERE lane IN (SELECT value FROM json_each(:lanes)) AND damaged IS NOT NULL AND damaged_by IS NOT :validator
    AND worker IS NULL AND due_at > 0

-- name: give_back
-- Gives back some runs of a worker.
UPDATE stepwell_runs
SET worker = NULL, token = token + 1,
    due_at = CASE WHEN :delay > 0 THEN :now + :delay ELSE :turn END, updated_at = :now,
    wake_at = CASE WHEN parked_at IS NOT NULL THEN wake_at END
WHERE worker = :worker AND token = (SELECT value FROM json_each(:tokens) AS given WHERE given.key = stepwell_runs.id)

-- name: free_crashed
-- Gives back the runs of a worker that died during them.
UPDATE stepwell_runs
SET worker = NULL, token = token + 1,
    due_at = :turn, updated_at = :now, crashes = crashes + 1
WHERE worker = :worker

-- name: sweep_orphans
-- Frees runs whose worker is not registered.
UPDATE stepwell_runs
SET worker = NULL, token = token + 1, due_at = :turn, updated_at = :now,
    wake_at = CASE WHEN parked_at IS NOT NULL THEN wake_at END
WHERE worker IS NOT NULL AND worker NOT IN (SELECT id FROM stepwell_workers)

-- name: sweep_stranded
-- Wakes runs that wait for nothing that can still come.
UPDATE stepwell_runs SET due_at = :turn, updated_at = :now
WHERE status IN ('pending', 'running', 'suspended', 'compensating') AND worker IS NULL AND due_at IS NULL
    AND (awaiting IS NULL OR EXISTS (
        SELECT 1 FROM stepwell_mailbox AS m
        WHERE m.ref = stepwell_runs.ref AND m.kind = 'signal' AND NOT m.taken
            AND instr(' ' || stepwell_runs.awaiting || ' ', ' ' || m.name || ' ') > 0))
    AND NOT EXISTS (
        SELECT 1 FROM stepwell_runs AS child
        WHERE child.parent_id = stepwell_runs.id AND child.status NOT IN ('completed', 'failed', 'canceled'))
