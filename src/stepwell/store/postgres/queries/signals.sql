-- name: has_message_key
-- Whether the run ever accepted this key.
SELECT 1 FROM stepwell.mailbox WHERE run_id = $run_id AND key = $key

-- name: deliver_signal
-- A signal, in one statement: locks the run, so that of those who wait for the lock each sees what the one
-- before it did, writes the message unless the run ever accepted its key, and counts it; a run that waits for it is due,
-- and waits for it no more. No row: there is no such run.
WITH clock AS MATERIALIZED (SELECT {now} AS now),
target AS MATERIALIZED (
    SELECT id, status, worker, messages, lane, coalesce($name = ANY(string_to_array(awaiting, ' ')), false) AS wakes
    FROM stepwell.runs WHERE id = $run_id FOR NO KEY UPDATE
),
written AS (
    INSERT INTO stepwell.mailbox (run_id, n, kind, name, value, key, delivered_at, receipt)
    SELECT id, messages + 1, 'signal', $name, $value, $key, clock.now, $receipt FROM target, clock
    WHERE status NOT IN ('completed', 'failed', 'canceled') AND (wakes OR NOT $waiting_only::boolean)
    ON CONFLICT (run_id, key) WHERE key IS NOT NULL DO NOTHING
    RETURNING run_id
),
counted AS (
    UPDATE stepwell.runs AS r
    SET messages = r.messages + 1, updated_at = clock.now,
        due_at = CASE WHEN a.wakes AND r.worker IS NULL THEN {turn} ELSE r.due_at END,
        status = CASE WHEN a.wakes AND r.status = 'suspended' THEN 'running' ELSE r.status END,
        awaiting = CASE WHEN a.wakes
            THEN nullif(array_to_string(array_remove(string_to_array(r.awaiting, ' '), $name), ' '), '') ELSE r.awaiting END,
        wake_at = CASE WHEN a.wakes THEN NULL ELSE r.wake_at END
    FROM target AS a, written AS w, clock WHERE r.id = a.id
)
SELECT status, wakes, worker IS NULL, EXISTS (SELECT 1 FROM written), lane FROM target

-- name: deliver_signals
-- Signals for as many runs, in one statement that waits for no lock: of a run that another transaction holds, or that is
-- not there, it says that it was not locked. Each is judged from its locked row alone, as in deliver_signal.
WITH clock AS MATERIALIZED (SELECT {now} AS now),
g AS MATERIALIZED (SELECT * FROM {g(run_id uuid, name text, value bytea, key text, waiting_only boolean, receipt bytea)+at}),
target AS MATERIALIZED (
    SELECT id, status, worker, messages, lane, awaiting FROM stepwell.runs
    WHERE id = ANY(ARRAY(SELECT run_id FROM g)) FOR NO KEY UPDATE SKIP LOCKED
),
judged AS MATERIALIZED (
    SELECT g.*, t.status, t.messages, t.lane, coalesce(g.name = ANY(string_to_array(t.awaiting, ' ')), false) AS wakes, t.worker IS NULL AS parked
    FROM g JOIN target AS t ON t.id = g.run_id
),
written AS (
    INSERT INTO stepwell.mailbox (run_id, n, kind, name, value, key, delivered_at, receipt)
    SELECT run_id, messages + 1, 'signal', name, value, key, clock.now, receipt FROM judged, clock
    WHERE status NOT IN ('completed', 'failed', 'canceled') AND (wakes OR NOT waiting_only)
    ON CONFLICT (run_id, key) WHERE key IS NOT NULL DO NOTHING
    RETURNING run_id
),
counted AS (
    UPDATE stepwell.runs AS r
    SET messages = r.messages + 1, updated_at = clock.now,
        due_at = CASE WHEN j.wakes AND r.worker IS NULL THEN {turn} ELSE r.due_at END,
        status = CASE WHEN j.wakes AND r.status = 'suspended' THEN 'running' ELSE r.status END,
        awaiting = CASE WHEN j.wakes
            THEN nullif(array_to_string(array_remove(string_to_array(r.awaiting, ' '), j.name), ' '), '') ELSE r.awaiting END,
        wake_at = CASE WHEN j.wakes THEN NULL ELSE r.wake_at END
    FROM judged AS j, clock WHERE r.id = j.run_id AND r.id = ANY(ARRAY(SELECT run_id FROM written))
)
SELECT j.run_id IS NOT NULL, j.status, j.wakes, j.parked, coalesce(j.run_id = ANY(ARRAY(SELECT run_id FROM written)), false),
    j.lane
FROM g LEFT JOIN judged AS j ON j.at = g.at ORDER BY g.at

-- name: find_tree
-- The run and its descendants that have not ended, the root first; each once, even if rows name each other as parents.
WITH RECURSIVE tree (id, status) AS (
    SELECT id, status FROM stepwell.runs WHERE id = $run_id
    UNION
    SELECT child.id, child.status
    FROM tree, LATERAL (SELECT r.id, r.status FROM stepwell.runs AS r WHERE r.parent_id = tree.id OFFSET 0) AS child
)
SELECT id::text FROM tree WHERE status NOT IN ('completed', 'failed', 'canceled')

-- name: parent_of
-- Whether a run is stored, and whose child it is.
SELECT parent_id::text, parent_node FROM stepwell.runs WHERE id = $run_id

-- name: lock_tree
-- Locks runs in the order of their ids, which every cancel keeps, so that two of them never wait for each other.
SELECT id FROM stepwell.runs WHERE id = ANY($ids::uuid[]) ORDER BY id FOR NO KEY UPDATE

-- name: request_cancel
-- Notes that runs are to be undone and canceled, once; those that can begin with it are due, the others wait for a child.
UPDATE stepwell.runs AS r
SET cancel_requested_at = clock.now, updated_at = clock.now,
    due_at = CASE WHEN r.worker IS NULL AND (
        SELECT true FROM stepwell.runs AS child
        WHERE child.parent_id = r.id AND child.status NOT IN ('completed', 'failed', 'canceled') LIMIT 1
    ) IS NULL THEN {turn} ELSE r.due_at END
FROM (SELECT {now} AS now) AS clock
WHERE r.id = ANY($ids::uuid[]) AND r.status <> 'compensating' AND r.cancel_requested_at IS NULL
RETURNING r.id::text

-- name: cancel
-- Ends runs; their owners can write no more.
UPDATE stepwell.runs
SET status = 'canceled', worker = NULL, token = token + 1, due_at = NULL, wake_at = NULL,
    awaiting = NULL, parked_at = NULL, finished_at = clock.now, updated_at = clock.now
FROM (SELECT {now} AS now) AS clock
WHERE id = ANY($ids::uuid[])
