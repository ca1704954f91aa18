-- name: find_run
-- One run, with its outline and input, if they are there.
SELECT {run.whole}
FROM stepwell.runs AS r
LEFT JOIN stepwell.definitions AS d ON d.lane = r.lane
LEFT JOIN stepwell.inputs AS i ON i.run_id = r.id
WHERE r.id = $run_id

-- name: find_result
-- One run with its journal, in order, in one round trip; a run without rows comes with a row of NULLs.
SELECT {run.once}, j.*
FROM stepwell.runs AS r
LEFT JOIN stepwell.definitions AS d ON d.lane = r.lane
LEFT JOIN stepwell.inputs AS i ON i.run_id = r.id
LEFT JOIN LATERAL (
    SELECT {journal.entry} FROM stepwell.journal AS j WHERE j.run_id = r.id OFFSET 0
) AS j ON true
WHERE r.id = $run_id
ORDER BY j.seq

-- name: list_runs
-- A page of runs, newest first, without inputs.
SELECT {run.listed}
FROM stepwell.runs AS r
LEFT JOIN stepwell.definitions AS d ON d.lane = r.lane
WHERE {conditions}
ORDER BY {order} DESC LIMIT $limit::bigint

-- name: failure_rows
-- The rows of runs that tell their failures and what was undone.
SELECT j.run_id::text, {journal.told}
FROM stepwell.journal AS j
WHERE j.run_id = ANY($ids::uuid[]) AND j.n = 0 AND (j.status = 'failed' OR j.phase = 'undo')
ORDER BY j.run_id, j.seq

-- name: find_ref
-- Whether a run is stored.
SELECT 1 FROM stepwell.runs WHERE id = $run_id

-- name: find_ended
-- The status of runs.
SELECT id::text, status FROM stepwell.runs WHERE id = ANY($ids::uuid[])

-- name: find_outline
-- The outline of the workflow of a lane.
SELECT outline FROM stepwell.definitions WHERE lane = $lane

-- name: lane_of
-- The lane of a run.
SELECT lane FROM stepwell.runs WHERE id = $run_id

-- name: list_runs_by_id
-- The runs of these ids as a page, newest first, without inputs.
SELECT {run.listed}
FROM stepwell.runs AS r
LEFT JOIN stepwell.definitions AS d ON d.lane = r.lane
WHERE r.id = ANY($ids::uuid[])
ORDER BY r.id DESC

-- name: open_retries
-- Of each run the newest failed attempt at what has no outcome yet, among its last hundred failed attempts.
SELECT wanted.id::text, {journal.told}
FROM unnest($ids::uuid[]) AS wanted (id), LATERAL (
    SELECT tried.* FROM (
        SELECT * FROM stepwell.journal AS r
        WHERE r.run_id = wanted.id AND r.status = 'retrying' ORDER BY r.seq DESC LIMIT 100
    ) AS tried
    WHERE (
        SELECT true FROM stepwell.journal AS later
        WHERE later.run_id = tried.run_id AND later.node = tried.node AND later.item = tried.item
            AND later.phase = tried.phase AND later.name = tried.name AND (later.n = 0 OR later.n > tried.n) LIMIT 1
    ) IS NULL
    ORDER BY tried.seq DESC LIMIT 1
) AS j

-- name: unread_signals
-- How many signals runs have not used, by name.
SELECT run_id::text, name, count(*) FROM stepwell.mailbox
WHERE run_id = ANY($ids::uuid[]) AND kind = 'signal' AND NOT taken GROUP BY run_id, name ORDER BY run_id, name

-- name: living_children
-- The children of runs that have not ended, oldest first.
SELECT id::text, parent_id::text, workflow, status, damaged FROM stepwell.runs
WHERE parent_id = ANY($ids::uuid[]) AND status NOT IN ('completed', 'failed', 'canceled') ORDER BY id

-- name: held_by_worker
-- How many runs each worker holds.
SELECT worker, count(*) FROM stepwell.runs WHERE worker IS NOT NULL GROUP BY worker

-- name: served
-- The definitions that registered workers serve.
SELECT lane, queue, workflow, fingerprint, outline FROM stepwell.definitions
WHERE lane = ANY(ARRAY(SELECT unnest(lanes) FROM stepwell.workers))

-- name: now
-- The store's instant.
SELECT {now}

-- name: find_keyed_message
-- The message by which a run accepted a key: its name, when it came, and its receipt.
SELECT m.name, m.delivered_at, m.receipt FROM stepwell.mailbox AS m WHERE m.run_id = $run_id AND m.key = $key
