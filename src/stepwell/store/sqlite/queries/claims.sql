-- name: is_enlisted
-- Whether the worker is registered, and so alive.
SELECT 1 FROM stepwell_workers WHERE id = :worker

-- name: find_due
-- The first due runs of a lane, as a JSON array, in a range of turns or of instants; suspects apart.
SELECT json_group_array(ref) FROM (
    SELECT ref FROM stepwell_runs
    WHERE lane = :lane AND worker IS NULL AND due_at IS NOT NULL AND due_at > :after AND due_at <= :until
        AND crashes < 2
    ORDER BY due_at, ref LIMIT :limit
)

-- name: find_suspects
-- The first due runs of a lane that crashed a number of workers, as a JSON array; those that crashed the fewest first.
SELECT json_group_array(ref) FROM (
    SELECT ref FROM stepwell_runs
    WHERE lane = :lane AND worker IS NULL AND due_at IS NOT NULL AND crashes >= 2 AND crashes >= :least
        AND crashes <= :most AND due_at <= :now
    ORDER BY crashes, due_at, ref LIMIT :limit
)

-- name: input_sizes
-- The bytes of runs' inputs, as a JSON object by their numbers; no input is read for it.
SELECT json_group_object(ref, length(value)) FROM stepwell_inputs WHERE ref IN (SELECT value FROM json_each(:refs))

-- name: lease
-- Gives runs to a worker; what they wait for stays, until a commit changes it.
UPDATE stepwell_runs
SET worker = :worker, token = token + 1, updated_at = :now,
    status = CASE status WHEN 'pending' THEN 'running' ELSE status END
WHERE ref IN (SELECT value FROM json_each(:refs))

-- name: leased
-- The leases of claimed runs, as one JSON array: a single row, so that the interpreter is entered once.
SELECT CAST(json_group_array(json_array(r.id, r.ref, {r.lease}, CAST(i.value AS TEXT))) AS BLOB)
FROM json_each(:refs) AS wanted
CROSS JOIN stepwell_runs AS r ON r.ref = wanted.value
CROSS JOIN stepwell_inputs AS i ON i.ref = r.ref

-- name: leased_run
-- The lease of one run, whatever its input is, or that it has none.
SELECT r.id, r.ref, {r.lease}, i.value
FROM stepwell_runs AS r LEFT JOIN stepwell_inputs AS i ON i.ref = r.ref
WHERE r.ref = :ref

-- name: next_due
-- When the next timer of these lanes is due.
SELECT min((
    SELECT min(due_at) FROM stepwell_runs
    WHERE lane = wanted.value AND worker IS NULL AND due_at IS NOT NULL AND due_at > :now
)) FROM json_each(:lanes) AS wanted

-- name: journal_of
-- A run's journal, in order.
SELECT {journal.entry}
FROM stepwell_journal AS j WHERE j.ref = :ref ORDER BY j.seq

-- name: journal_size
-- The bytes of a run's journal; no large value is read for it.
SELECT coalesce(sum(coalesce(length(value), 0) + coalesce(length(detail), 0) + coalesce(length(error), 0)), 0)
FROM stepwell_journal WHERE ref = :ref

-- name: journal_parts
-- Rows of some nodes of a run, in order: of some all, of the others those from the last outcome on, found by their
-- items, which are named in order: the last outcome itself, and the attempts after it.
WITH since AS MATERIALIZED (
    SELECT named.number AS node, coalesce(CASE WHEN wanted.value ->> 1 THEN (
        SELECT j.item FROM stepwell_journal AS j
        WHERE j.ref = :ref AND j.node = named.number AND j.phase = 'do' AND j.name = '' AND j.n = 0
        ORDER BY j.item DESC LIMIT 1
    ) END, '') AS item
    FROM json_each(:nodes) AS wanted CROSS JOIN stepwell_names AS named ON named.name = wanted.value ->> 0
)
SELECT {journal.entry}
FROM since CROSS JOIN stepwell_journal AS j
WHERE j.ref = :ref AND j.node = since.node AND j.item >= since.item
    AND (j.n = 0 AND j.name = '' OR j.item > since.item OR since.item = '')
ORDER BY j.seq

-- name: message_counts
-- How many messages the run ever got.
SELECT messages FROM stepwell_runs WHERE ref = :ref

-- name: find_message
-- A run's first unread message of a name, behind a number.
SELECT n, kind, name, value, error, sender FROM stepwell_mailbox
WHERE ref = :ref AND kind = :kind AND name = :name AND NOT taken AND n > :after ORDER BY n LIMIT 1
