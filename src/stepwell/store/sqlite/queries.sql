-- name: has_schema
-- Whether the tables were ever made.
SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'stepwell_schema'

-- name: schema_version
-- The number of the newest migration applied.
SELECT coalesce(max(version), 0) FROM stepwell_schema

-- name: record_migration
-- Says that a migration was applied.
INSERT INTO stepwell_schema (version, name, applied_at) VALUES (?, ?, ?)

-- name: find_lane
-- The number of a lane, if it is stored.
SELECT lane FROM stepwell_definitions WHERE queue = :queue AND workflow = :workflow AND fingerprint = :fingerprint

-- name: has_lane
-- Whether this lane is one of this workflow.
SELECT 1 FROM stepwell_definitions WHERE lane = ? AND workflow = ?

-- name: add_lane
-- Stores a lane with the outline of its workflow and gives its number.
INSERT INTO stepwell_definitions (queue, workflow, fingerprint, outline)
VALUES (:queue, :workflow, :fingerprint, :outline) RETURNING lane

-- name: find_key
-- The first run of this workflow and key, with its input.
SELECT r.id, r.status, i.value
FROM stepwell_runs AS r LEFT JOIN stepwell_inputs AS i ON i.ref = r.ref
WHERE r.workflow = ? AND r.key = ?

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
INSERT INTO stepwell_runs (ref, id, lane, workflow, key, status, position, token, seq, mail, crashes, due_at, wake_at,
    parent_id, parent_node, created_at, updated_at)
SELECT column1, column2, column3, column4, column5, 'pending', 0, 0, 0, 0, 0, column6, column7, column8, column9,
    column10, column11
FROM (VALUES {(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)}) WHERE column1 IS NOT NULL
ON CONFLICT (id) DO NOTHING

-- name: add_inputs
-- Writes the inputs of new runs; a conflict is a bug, and loud.
INSERT INTO stepwell_inputs (ref, value)
SELECT column1, column2 FROM (VALUES {(?, ?)}) WHERE column1 IS NOT NULL

-- name: is_enlisted
-- Whether the worker is registered, and so alive.
SELECT 1 FROM stepwell_workers WHERE id = ?

-- name: next_turn
-- The turn of what is made due at once now, behind all that are.
UPDATE stepwell_turns SET last = last + 1 RETURNING last

-- name: find_due
-- The first due runs of a lane, as a JSON array, in a range of turns or of instants; suspects apart.
SELECT json_group_array(ref) FROM (
    SELECT ref FROM stepwell_runs
    WHERE lane = :lane AND worker IS NULL AND due_at IS NOT NULL AND due_at > :after AND due_at <= :until
        AND crashes < 2
    ORDER BY due_at, ref LIMIT :limit
)

-- name: find_suspects
-- The first due runs of a lane that crashed so many workers, as a JSON array; those that crashed the fewest first.
SELECT json_group_array(ref) FROM (
    SELECT ref FROM stepwell_runs
    WHERE lane = :lane AND worker IS NULL AND due_at IS NOT NULL AND crashes >= 2 AND crashes >= :least
        AND crashes <= :most AND due_at <= :now
    ORDER BY crashes, due_at, ref LIMIT :limit
)

-- name: input_sizes
-- The bytes of runs' inputs, as a JSON object by their numbers; no input is read for it.
SELECT json_group_object(ref, length(value)) FROM stepwell_inputs WHERE ref IN (SELECT value FROM json_each(?))

-- name: lease
-- Gives runs to a worker; what they wait for stays, until a commit changes it.
UPDATE stepwell_runs
SET worker = :worker, token = token + 1, updated_at = :now,
    status = CASE status WHEN 'pending' THEN 'running' ELSE status END
WHERE ref IN (SELECT value FROM json_each(:refs))

-- name: leased
-- The leases of claimed runs, as one JSON array: a single row, so that the interpreter is entered once.
SELECT CAST(json_group_array(json_array(r.id, r.ref, r.token, r.seq, r.mail, r.crashes, r.lane, r.position, r.status,
    r.wake_at, r.awaiting, r.parked_at, r.parent_id, r.parent_node, CAST(i.value AS TEXT))) AS BLOB)
FROM json_each(:refs) AS wanted
CROSS JOIN stepwell_runs AS r ON r.ref = wanted.value
CROSS JOIN stepwell_inputs AS i ON i.ref = r.ref

-- name: leased_run
-- The lease of one run, whatever its input is, or that it has none.
SELECT r.id, r.ref, r.token, r.seq, r.mail, r.crashes, r.lane, r.position, r.status, r.wake_at, r.awaiting, r.parked_at,
    r.parent_id, r.parent_node, i.value
FROM stepwell_runs AS r LEFT JOIN stepwell_inputs AS i ON i.ref = r.ref
WHERE r.ref = ?

-- name: next_due
-- When the next timer of these lanes is due.
SELECT min((
    SELECT min(due_at) FROM stepwell_runs
    WHERE lane = wanted.value AND worker IS NULL AND due_at IS NOT NULL AND due_at > :now
)) FROM json_each(:lanes) AS wanted

-- name: journal_of
-- A run's journal, in order.
SELECT {journal.entry}
FROM stepwell_journal AS j WHERE j.ref = ? ORDER BY j.seq

-- name: journal_size
-- The bytes of a run's journal; no large value is read for it.
SELECT coalesce(sum(coalesce(length(value), 0) + coalesce(length(detail), 0) + coalesce(length(error), 0)), 0)
FROM stepwell_journal WHERE ref = ?

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

-- name: mail_count
-- How much mail the run ever had.
SELECT mail FROM stepwell_runs WHERE ref = ?

-- name: find_message
-- A run's first unread message of a name, behind a number.
SELECT n, kind, name, value, error FROM stepwell_mailbox
WHERE ref = :ref AND kind = :kind AND name = :name AND NOT taken AND n > :after ORDER BY n LIMIT 1

-- name: numbers
-- The numbers of names, as one JSON object; those that have none are left out.
SELECT json_group_object(name, number) FROM stepwell_names WHERE name IN (SELECT value FROM json_each(?))

-- name: add_names
-- Gives numbers to names.
INSERT INTO stepwell_names (name) SELECT value FROM json_each(?)

-- name: extend
-- Lean advances: runs that stay with their worker, each only if it is owned and as long as the advance says.
UPDATE stepwell_runs
SET seq = stepwell_runs.seq + v.n, position = v.position, crashes = 0, wake_at = NULL, awaiting = NULL,
    parked_at = NULL, damaged = NULL, damaged_by = NULL, damage_count = NULL, updated_at = ?
FROM (SELECT column1 AS ref, column2 AS token, column3 AS seq, column4 AS n, column5 AS position
      FROM (VALUES {(?, ?, ?, ?, ?)})) AS v
WHERE stepwell_runs.ref = v.ref AND worker = ? AND stepwell_runs.token = v.token AND stepwell_runs.seq = v.seq

-- name: change
-- Advances of every other sort: they also set what the run waits for, or let go of it. One that rests on the absence of
-- a message is refused when such a message is behind those that were seen.
UPDATE stepwell_runs
SET seq = stepwell_runs.seq + v.n, position = v.position, status = v.status, worker = v.worker, due_at = v.due_at,
    wake_at = v.wake_at, awaiting = v.awaiting, parked_at = v.parked_at, finished_at = v.finished_at,
    damaged = NULL, damaged_by = NULL, damage_count = NULL, crashes = CASE WHEN v.n > 0 THEN 0 ELSE crashes END,
    updated_at = ?
FROM (SELECT column1 AS ref, column2 AS token, column3 AS seq, column4 AS n, column5 AS seen, column6 AS position,
             column7 AS status, column8 AS worker, column9 AS due_at, column10 AS wake_at, column11 AS awaiting,
             column12 AS parked_at, column13 AS finished_at, column14 AS absent_kind, column15 AS absent_name
      FROM (VALUES {(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)})) AS v
WHERE stepwell_runs.ref = v.ref AND stepwell_runs.worker = ? AND stepwell_runs.token = v.token
    AND stepwell_runs.seq = v.seq AND (v.absent_kind IS NULL OR v.seen = stepwell_runs.mail
        OR (v.seen < stepwell_runs.mail AND NOT EXISTS (
            SELECT 1 FROM stepwell_mailbox AS m
            WHERE m.ref = v.ref AND m.kind = v.absent_kind AND m.name = v.absent_name AND NOT m.taken AND m.n > v.seen)))

-- name: add_usual_rows
-- Journal rows of steps that completed at their first attempt, by one worker; a conflict is a bug, and loud.
INSERT INTO stepwell_journal (worker, ref, seq, node, value, started_at, finished_at)
SELECT ?, column1, column2, column3, column4, column5, column6
FROM (VALUES {(?, ?, ?, ?, ?, ?)}) WHERE column1 IS NOT NULL

-- name: add_rows
-- Journal rows of every sort; a conflict is a bug, and loud.
INSERT INTO stepwell_journal (ref, seq, node, item, phase, n, kind, attempt, status, value, detail, error, retry_at,
    started_at, finished_at, worker, name)
SELECT * FROM (VALUES {(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)}) WHERE column1 IS NOT NULL

-- name: fences
-- What the verdict on an advance rests on.
SELECT worker, token, seq, mail FROM stepwell_runs WHERE ref = ?

-- name: take_mail
-- Mail that an outcome used: its payload is in the journal now.
UPDATE stepwell_mailbox SET taken = 1, value = NULL, error = NULL WHERE ref = ? AND n = ?

-- name: post
-- The end of a child reaches its parent, unless that has ended; it is due if it is parked for a child.
UPDATE stepwell_runs
SET mail = mail + 1, updated_at = :now,
    due_at = CASE WHEN worker IS NULL AND status = 'suspended' AND awaiting IS NULL THEN :turn ELSE due_at END,
    status = CASE WHEN worker IS NULL AND status = 'suspended' AND awaiting IS NULL THEN 'running' ELSE status END
WHERE id = :parent_id AND status NOT IN ('completed', 'failed', 'canceled')
RETURNING ref, mail

-- name: add_mail
-- A letter in a run's mailbox, behind all that are there, however many the run's row counts.
INSERT INTO stepwell_mailbox (ref, n, kind, name, value, error, key)
VALUES (:ref, max(:n, (SELECT coalesce(max(n), 0) + 1 FROM stepwell_mailbox WHERE ref = :ref)), :kind, :name, :value,
    :error, :key)

-- name: find_addressee
-- The run a signal is for.
SELECT ref, status, awaiting, worker, mail, lane FROM stepwell_runs WHERE id = ?

-- name: has_mail_key
-- Whether the run ever accepted this key.
SELECT 1 FROM stepwell_mailbox WHERE ref = ? AND key = ?

-- name: ring
-- Counts a signal's letter; a run that waits for it is due, and waits no more.
UPDATE stepwell_runs
SET mail = mail + 1, updated_at = :now,
    due_at = CASE WHEN :wakes AND worker IS NULL THEN :turn ELSE due_at END,
    status = CASE WHEN :wakes AND status = 'suspended' THEN 'running' ELSE status END,
    awaiting = CASE WHEN :wakes THEN NULL ELSE awaiting END,
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

-- name: find_family
-- Whether a run is stored, and whose child it is.
SELECT parent_id, parent_node FROM stepwell_runs WHERE id = ?

-- name: cancel
-- Ends runs; whoever holds one can write no more.
UPDATE stepwell_runs
SET status = 'canceled', worker = NULL, token = token + 1, due_at = NULL, wake_at = NULL, awaiting = NULL,
    parked_at = NULL, finished_at = :now, updated_at = :now
WHERE id IN (SELECT value FROM json_each(:ids))

-- name: enlist
-- Registers a worker, with what it serves: the lanes as a JSON array.
INSERT INTO stepwell_workers (id, beat_at, started_at, host, pid, process, lanes, concurrency, lease)
VALUES (:id, :now, :now, :host, :pid, :process, :lanes, :concurrency, :lease) ON CONFLICT (id) DO NOTHING

-- name: serve
-- Notes the lanes that a worker serves now.
UPDATE stepwell_workers SET lanes = :lanes WHERE id = :id

-- name: beat
-- The worker lives; no row: it was buried.
UPDATE stepwell_workers SET beat_at = :now WHERE id = :id

-- name: held
-- The runs leased to a worker with their tokens, as one JSON object.
SELECT json_group_object(id, token) FROM stepwell_runs WHERE worker = ?

-- name: list_workers
-- Everybody who is registered.
SELECT id, beat_at, host, pid, process, lanes, concurrency, lease FROM stepwell_workers ORDER BY id

-- name: dismiss
-- Removes a worker that left.
DELETE FROM stepwell_workers WHERE id = ?

-- name: dismiss_silent
-- Removes a worker that is still silent.
DELETE FROM stepwell_workers WHERE id = :id AND beat_at < :silent_since

-- name: free
-- Gives back the runs of a worker that left.
UPDATE stepwell_runs SET worker = NULL, token = token + 1, due_at = :turn, updated_at = :now
WHERE worker = :worker

-- name: park_damaged
-- Puts off a run whose rows its worker does not understand, twice as long each time, up to an hour.
UPDATE stepwell_runs
SET worker = NULL, token = token + 1, updated_at = :now, damaged = :reason, damaged_by = :judge,
    damage_count = coalesce(damage_count, 0) + 1,
    due_at = :now + min(3600000000, 60000000 << min(coalesce(damage_count, 0), 6))
WHERE ref = :ref AND worker = :worker AND token = :token

-- name: recheck_damaged
-- Makes damaged runs due that another release or definition judged.
UPDATE stepwell_runs SET due_at = :turn, updated_at = :now
WHERE lane IN (SELECT value FROM json_each(:lanes)) AND damaged IS NOT NULL AND damaged_by IS NOT :judge
    AND worker IS NULL AND due_at > 0

-- name: give_back
-- Gives back some runs of a worker.
UPDATE stepwell_runs
SET worker = NULL, token = token + 1,
    due_at = CASE WHEN :delay > 0 THEN :now + :delay ELSE :turn END, updated_at = :now
WHERE worker = :worker AND token = (SELECT value FROM json_each(:tokens) AS given WHERE given.key = stepwell_runs.id)

-- name: free_crashed
-- Gives back the runs of a worker that died during them.
UPDATE stepwell_runs
SET worker = NULL, token = token + 1,
    due_at = :turn, updated_at = :now, crashes = crashes + 1
WHERE worker = :worker

-- name: sweep_orphans
-- Frees runs whose worker is not registered.
UPDATE stepwell_runs SET worker = NULL, token = token + 1, due_at = :turn, updated_at = :now
WHERE worker IS NOT NULL AND worker NOT IN (SELECT id FROM stepwell_workers)

-- name: sweep_stranded
-- Wakes runs that wait for nothing that can still come.
UPDATE stepwell_runs SET due_at = :turn, updated_at = :now
WHERE status IN ('pending', 'running', 'suspended', 'compensating') AND worker IS NULL AND due_at IS NULL
    AND (awaiting IS NULL OR EXISTS (
        SELECT 1 FROM stepwell_mailbox AS m
        WHERE m.ref = stepwell_runs.ref AND m.kind = 'signal' AND m.name = stepwell_runs.awaiting AND NOT m.taken))
    AND NOT EXISTS (
        SELECT 1 FROM stepwell_runs AS child
        WHERE child.parent_id = stepwell_runs.id AND child.status NOT IN ('completed', 'failed', 'canceled'))

-- name: find_run
-- One run, with its outline and input, if they are there.
SELECT r.id, r.key, r.workflow, r.status, r.position, r.awaiting, CASE WHEN r.worker IS NULL THEN r.wake_at END,
    r.parent_id, r.created_at, r.updated_at, r.finished_at, d.outline, i.value, r.mail,
    r.crashes, r.worker, r.due_at, r.lane, d.queue, d.fingerprint, r.ref
FROM stepwell_runs AS r
LEFT JOIN stepwell_definitions AS d ON d.lane = r.lane
LEFT JOIN stepwell_inputs AS i ON i.ref = r.ref
WHERE r.id = ?

-- name: list_runs
-- A page of runs, newest first, without inputs.
SELECT r.id, r.key, r.workflow, r.status, r.position, r.awaiting, CASE WHEN r.worker IS NULL THEN r.wake_at END,
    r.parent_id, r.created_at, r.updated_at, r.finished_at, d.outline, NULL, r.mail,
    r.crashes, r.worker, r.due_at, r.lane, d.queue, d.fingerprint, r.ref
FROM stepwell_runs AS r
LEFT JOIN stepwell_definitions AS d ON d.lane = r.lane
WHERE {conditions}
ORDER BY {order} DESC LIMIT :limit

-- name: telling_rows
-- The rows of runs that tell their failures and what was undone.
SELECT {journal.told}
FROM stepwell_journal AS j INDEXED BY stepwell_journal_telling
WHERE j.ref IN (SELECT value FROM json_each(?)) AND j.n = 0 AND (j.status = 'failed' OR j.phase = 'undo')
ORDER BY j.ref, j.seq

-- name: find_ref
-- The number of a run.
SELECT ref FROM stepwell_runs WHERE id = ?

-- name: find_ended
-- The status of runs.
SELECT id, status FROM stepwell_runs WHERE id IN (SELECT value FROM json_each(?))

-- name: find_outline
-- The outline of the workflow of a lane.
SELECT outline FROM stepwell_definitions WHERE lane = ?

-- name: lane_of
-- The lane of a run.
SELECT lane FROM stepwell_runs WHERE id = ?

-- name: open_retries
-- Of each run the newest failed attempt at what has no outcome yet, among its last hundred failed attempts.
SELECT {journal.told}
FROM json_each(?) AS wanted CROSS JOIN stepwell_journal AS j ON j.rowid = (
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
WHERE ref IN (SELECT value FROM json_each(?)) AND kind = 'signal' AND NOT taken GROUP BY ref, name ORDER BY ref, name

-- name: living_children
-- The children of runs that have not ended, oldest first.
SELECT id, parent_id, workflow, status FROM stepwell_runs
WHERE parent_id IN (SELECT value FROM json_each(?)) AND status NOT IN ('completed', 'failed', 'canceled') ORDER BY id

-- name: held_by_worker
-- How many runs each worker holds.
SELECT worker, count(*) FROM stepwell_runs WHERE worker IS NOT NULL GROUP BY worker

-- name: served
-- The definitions that registered workers serve.
SELECT d.lane, d.queue, d.workflow, d.fingerprint, d.outline FROM stepwell_definitions AS d
WHERE d.lane IN (SELECT lane.value FROM stepwell_workers AS w, json_each(w.lanes) AS lane)
