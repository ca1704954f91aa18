-- name: find_run
-- One run, with its outline and input, if they are there.
SELECT {run.whole}, r.ref
FROM stepwell_runs AS r
LEFT JOIN stepwell_definitions AS d ON d.lane = r.lane
LEFT JOIN stepwell_inputs AS i ON i.ref = r.ref
WHERE r.id = :run_id

-- name: list_runs
-- A page of runs, newest first, without inputs.
SELECT {run.listed}, r.ref
FROM stepwell_runs AS r
LEFT JOIN stepwell_definitions AS d ON d.lane = r.lane
WHERE {conditions}
ORDER BY {order} DESC LIMIT :limit

-- name: failure_rows
-- The rows of runs that tell their failures and what was undone.
SELECT {journal.told}
FROM stepwell_journal AS j INDEXED BY stepwell_journal_telling
WHERE j.ref IN (SELECT value FROM json_each(:refs)) AND j.n = 0 AND (j.status = 'failed' OR j.phase = 'undo')
ORDER BY j.ref, j.seq

-- name: find_ref
-- The number of a run.
SELECT ref FROM stepwell_runs WHERE id = :run_id

-- name: find_ended
-- The status of runs.
SELECT id, status FROM stepwell_runs WHERE id IN (SELECT value FROM json_each(:ids))

-- name: find_outline
-- The outline of the workflow of a lane.
SELECT outline FROM stepwell_definitions WHERE lane = :lane

-- name: lane_of
-- The lane of a run.
SELECT lane FROM stepwell_runs WHERE id = :run_id

-- name: open_retries
-- Of each run the newest failed attempt at what has no outcome yet, among its last hundred failed attempts.
SELECT {journal.told}
FROM json_each(:refs) AS wanted CROSS JOIN stepwell_journal AS j ON j.rowid = (
    SELECT tried.id FROM (
        SELECT r.rowid AS id, r.ref, r.seq, r.node, r.item, r.phase, r.name, r.n FROM stepwell_journal AS r
        WHERE r.ref = wanted.value AND r.status = 'retrying' ORDER BY r.seq DESC LIMIT 100
    ) AS tried
    WHERE NOT EXISTS (
        SELECT 1 FROM stepwell_journal AS later
        WHERE later.ref = tried.ref AND later.node = tried.node AND later.item = tried.item
            AND later.phase = tried.phase AND later.name = tried.name AND (later.n = 0 OR later.n > tried.n)
    )
    ORDER BY tried.seq DESC LIMIT 1
)

-- name: unread_signals
-- How many signals runs have not used, by name.
SELECT ref, name, count(*) FROM stepwell_mailbox
WHERE ref IN (SELECT value FROM json_each(:refs)) AND kind = 'signal' AND NOT taken GROUP BY ref, name ORDER BY ref, name

-- name: living_children
-- The children of runs that have not ended, oldest first.
SELECT id, parent_id, workflow, status, damaged FROM stepwell_runs
WHERE parent_id IN (SELECT value FROM json_each(:ids)) AND status NOT IN ('completed', 'failed', 'canceled') ORDER BY id

-- name: held_by_worker
-- How many runs each worker holds.
SELECT worker, count(*) FROM stepwell_runs WHERE worker IS NOT NULL GROUP BY worker

-- name: served
-- The definitions that registered workers serve.
SELECT d.lane, d.queue, d.workflow, d.fingerprint, d.outline FROM stepwell_definitions AS d
WHERE d.lane IN (SELECT lane.value FROM stepwell_workers AS w, json_each(w.lanes) AS lane)

-- name: find_keyed_message
-- The message by which a run accepted a key: its name, when it came, and its receipt.
SELECT m.name, m.delivered_at, m.receipt FROM stepwell_runs AS r JOIN stepwell_mailbox AS m ON m.ref = r.ref
WHERE r.id = :run_id AND m.key = :key
