-- name: find_signaled
-- The run a signal is for.
SELECT ref, status, awaiting, worker, messages, lane FROM stepwell_runs WHERE id = :run_id

-- name: has_message_key
-- Whether the run ever accepted this key.
SELECT 1 FROM stepwell_mailbox WHERE ref = :ref AND key = :key

-- name: deliver_signal
-- Counts a signal; a run that waits for it is due, and waits for it no more.
UPDATE stepwell_runs
SET messages = messages + 1, updated_at = :now,
    due_at = CASE WHEN :wakes AND worker IS NULL THEN :turn ELSE due_at END,
    status = CASE WHEN :wakes AND status = 'suspended' THEN 'running' ELSE status END,
    awaiting = CASE WHEN :wakes THEN :left ELSE awaiting END,
    wake_at = CASE WHEN :wakes THEN NULL ELSE wake_at END
WHERE ref = :ref

-- name: find_tree
-- The run and its descendants that have not ended, the root first; each once, even if rows name each other as parents.
WITH RECURSIVE tree (id) AS (
    SELECT :run_id
    UNION
    SELECT child.id FROM tree JOIN stepwell_runs AS child ON child.parent_id = tree.id
)
SELECT r.id FROM tree JOIN stepwell_runs AS r ON r.id = tree.id
WHERE r.status NOT IN ('completed', 'failed', 'canceled')

-- name: parent_of
-- Whether a run is stored, and whose child it is.
SELECT parent_id, parent_node FROM stepwell_runs WHERE id = :run_id

-- name: request_cancel
-- Notes that runs are to be undone and canceled, once; those that can begin with it are due, the others wait for a child.
UPDATE stepwell_runs
SET cancel_requested_at = :now, updated_at = :now,
    due_at = CASE WHEN worker IS NULL AND NOT EXISTS (
        SELECT 1 FROM stepwell_runs AS child
        WHERE child.parent_id = stepwell_runs.id AND child.status NOT IN ('completed', 'failed', 'canceled')
    ) THEN :turn ELSE due_at END
WHERE id IN (SELECT value FROM json_each(:ids)) AND status <> 'compensating' AND cancel_requested_at IS NULL
RETURNING id

-- name: cancel
-- Ends runs; their owners can write no more.
UPDATE stepwell_runs
SET status = 'canceled', worker = NULL, token = token + 1, due_at = NULL, wake_at = NULL, awaiting = NULL,
    parked_at = NULL, finished_at = :now, updated_at = :now
WHERE id IN (SELECT value FROM json_each(:ids))
