-- name: enlist
-- Registers a worker, with what it serves.
INSERT INTO stepwell.workers (id, beat_at, started_at, host, pid, lanes, concurrency, lease)
SELECT $worker, clock.now, clock.now, $host, $pid, $lanes::integer[], $concurrency, $lease FROM (SELECT {now} AS now) AS clock
ON CONFLICT (id) DO NOTHING

-- name: serve
-- Notes the lanes that a worker serves now.
UPDATE stepwell.workers SET lanes = $lanes::integer[] WHERE id = $worker

-- name: beat
-- The worker is alive; no row: it was declared dead.
UPDATE stepwell.workers SET beat_at = {now} WHERE id = $worker RETURNING 1

-- name: held
-- The runs leased to a worker with their tokens.
SELECT id::text, token FROM stepwell.runs WHERE worker = $worker

-- name: owned
-- The same, and whether a cancel was requested of them.
SELECT id::text, token, cancel_requested_at IS NOT NULL FROM stepwell.runs WHERE worker = $worker

-- name: list_workers
-- Every registered worker, and those that hold runs without being registered: not all of their runs could be freed.
-- The index is asked for one holder after the other, not for all the runs they hold.
WITH RECURSIVE holders (worker) AS (
    (SELECT worker FROM stepwell.runs WHERE worker IS NOT NULL ORDER BY worker LIMIT 1)
    UNION ALL
    SELECT (SELECT r.worker FROM stepwell.runs AS r WHERE r.worker > h.worker ORDER BY r.worker LIMIT 1)
    FROM holders AS h WHERE h.worker IS NOT NULL
)
SELECT id, beat_at, {now} - beat_at, host, pid, false, lanes, concurrency, lease FROM stepwell.workers
UNION ALL
SELECT h.worker, 0::bigint, 0::bigint, '', 0, true, '{}'::integer[], 0, 0::bigint FROM holders AS h
WHERE h.worker IS NOT NULL AND NOT EXISTS (SELECT 1 FROM stepwell.workers AS w WHERE w.id = h.worker)
ORDER BY 1

-- name: delete_worker
-- Removes a worker that left.
DELETE FROM stepwell.workers WHERE id = $worker RETURNING 1

-- name: free_runs
-- Gives back the runs of a worker that left; one that another transaction holds is found by the next sweep. One that is
-- not parked waits for no instant any more: by that it is known, here and below, from one that a commit let go of, with
-- nothing in flight.
UPDATE stepwell.runs
SET worker = NULL, token = token + 1, due_at = {turn}, updated_at = clock.now,
    wake_at = CASE WHEN parked_at IS NOT NULL THEN wake_at END
FROM (SELECT {now} AS now) AS clock
WHERE id = ANY(ARRAY(SELECT id FROM stepwell.runs WHERE worker = $worker FOR NO KEY UPDATE SKIP LOCKED))
RETURNING 1

-- name: park_damaged
-- Puts off a run whose rows its worker does not understand, twice as long each time, up to an hour.
UPDATE stepwell.runs
SET worker = NULL, token = token + 1, updated_at = clock.now, damaged = $reason, damaged_by = $validator,
    damage_count = coalesce(damage_count, 0) + 1, wake_at = CASE WHEN parked_at IS NOT NULL THEN wake_at END,
    due_at = clock.now + least(3600000000, 60000000::bigint << least(coalesce(damage_count, 0), 6))
FROM (SELECT {now} AS now) AS clock
WHERE id = $run_id AND worker IS NOT DISTINCT FROM $worker AND token = $token
RETURNING damage_count

-- name: recheck_damaged
-- Makes damaged runs due that another release or definition judged; one that is locked is being changed anyway.
UPDATE stepwell.runs SET due_at = {turn}, updated_at = clock.now
FROM (SELECT {now} AS now) AS clock
WHERE id = ANY(ARRAY(
    SELECT id FROM stepwell.runs
    WHERE lane = ANY($lanes::integer[]) AND damaged IS NOT NULL AND damaged_by IS DISTINCT FROM $validator
        AND CASE WHEN worker IS NULL THEN due_at > 0 END
    FOR NO KEY UPDATE SKIP LOCKED
))
RETURNING 1

-- name: give_back
-- Gives back some runs of a worker, each only under the token it is leased with.
UPDATE stepwell.runs AS r
SET worker = NULL, token = r.token + 1, updated_at = clock.now,
    due_at = CASE WHEN $delay::bigint > 0 THEN clock.now + $delay::bigint ELSE {turn} END,
    wake_at = CASE WHEN r.parked_at IS NOT NULL THEN r.wake_at END
FROM (SELECT {now} AS now) AS clock
WHERE r.id IN (
    SELECT held.id
    FROM {named(id uuid, token integer)}
    JOIN stepwell.runs AS held ON held.id = named.id AND held.token = named.token
    WHERE held.worker = $worker FOR NO KEY UPDATE OF held SKIP LOCKED
)

-- name: free_crashed
-- Expires: removes a dead worker, whose silence is checked again under the lock of its row, and gives back the runs it
-- died during; one that another transaction holds is found the next time. In one statement, so that a worker that stops
-- in the middle holds no lock.
WITH gone AS (
    DELETE FROM stepwell.workers WHERE id = $worker AND ($silent_for::bigint IS NULL OR beat_at < {now} - $silent_for::bigint) RETURNING 1
),
held AS MATERIALIZED (
    SELECT id FROM stepwell.runs WHERE worker = $worker AND EXISTS (SELECT 1 FROM gone) FOR NO KEY UPDATE SKIP LOCKED
),
freed AS (
    UPDATE stepwell.runs
    SET worker = NULL, token = token + 1, due_at = {turn}, updated_at = clock.now,
        crashes = crashes + 1
    FROM (SELECT {now} AS now) AS clock
    WHERE id = ANY(ARRAY(SELECT id FROM held))
    RETURNING 1
)
SELECT EXISTS (SELECT 1 FROM gone), (SELECT count(*) FROM freed)

-- name: sweep_orphans
-- Frees runs whose worker is not registered.
UPDATE stepwell.runs
SET worker = NULL, token = token + 1, due_at = {turn}, updated_at = clock.now,
    wake_at = CASE WHEN parked_at IS NOT NULL THEN wake_at END
FROM (SELECT {now} AS now) AS clock
WHERE id = ANY(ARRAY(
    SELECT id FROM stepwell.runs AS r
    WHERE worker IS NOT NULL AND NOT EXISTS (SELECT 1 FROM stepwell.workers AS w WHERE w.id = r.worker)
    FOR NO KEY UPDATE SKIP LOCKED
))
RETURNING 1

-- name: sweep_stranded
-- Wakes runs that wait for nothing that can still come.
UPDATE stepwell.runs SET due_at = {turn}, updated_at = clock.now
FROM (SELECT {now} AS now) AS clock
WHERE id = ANY(ARRAY(
    SELECT id FROM stepwell.runs AS r
    WHERE status IN ('pending', 'running', 'suspended', 'compensating') AND worker IS NULL AND due_at IS NULL
        AND (awaiting IS NULL OR (
            SELECT true FROM unnest(string_to_array(r.awaiting, ' ')) AS awaited (name)
            WHERE (SELECT true FROM stepwell.mailbox AS m
                WHERE m.run_id = r.id AND m.kind = 'signal' AND m.name = awaited.name AND NOT m.taken LIMIT 1) LIMIT 1))
        AND (
            SELECT true FROM stepwell.runs AS child
            WHERE child.parent_id = r.id AND child.status NOT IN ('completed', 'failed', 'canceled') LIMIT 1) IS NULL
    FOR NO KEY UPDATE SKIP LOCKED
))
RETURNING 1
