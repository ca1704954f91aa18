-- name: find_lane
-- The number of a lane, if it is stored.
SELECT lane FROM stepwell_definitions WHERE queue = :queue AND workflow = :workflow AND fingerprint = :fingerprint

-- name: has_lane
-- Whether this lane is one of this workflow.
SELECT 1 FROM stepwell_definitions WHERE lane = :lane AND workflow = :workflow

-- name: add_lane
-- Stores a lane with the outline of its workflow and gives its number.
INSERT INTO stepwell_definitions (queue, workflow, fingerprint, outline)
VALUES (:queue, :workflow, :fingerprint, :outline) RETURNING lane

-- name: find_key
-- The first run of this workflow and key, with its input.
SELECT r.id, r.status, i.value
FROM stepwell_runs AS r LEFT JOIN stepwell_inputs AS i ON i.ref = r.ref
WHERE r.workflow = :workflow AND r.key = :key

-- name: next_ref
-- The number of the next run: above every number that a run ever had, and above every one that has rows left, so that
-- nothing of a run that was deleted by hand becomes part of a new one.
SELECT max(
    coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'stepwell_runs'), 0),
    coalesce((SELECT max(ref) FROM stepwell_runs), 0),
    coalesce((SELECT max(ref) FROM stepwell_inputs), 0),
    coalesce((SELECT max(ref) FROM stepwell_journal), 0),
    coalesce((SELECT max(ref) FROM stepwell_mailbox), 0)
) + 1

-- name: add_runs
-- Writes new runs; one written before, by a call whose answer was lost, stays.
INSERT INTO stepwell_runs (ref, {new_run.columns})
SELECT n.ref, {new_run.values} FROM {n({new_run.given})} WHERE n.ref IS NOT NULL
ON CONFLICT (id) DO NOTHING

-- name: add_inputs
-- Writes the inputs of new runs; a conflict is a bug, and loud.
INSERT INTO stepwell_inputs (ref, value) SELECT ref, value FROM {n(ref, value)} WHERE ref IS NOT NULL

-- name: next_turn
-- The turn of what is made due at once now, behind all that are.
UPDATE stepwell_turns SET last = last + 1 RETURNING last
