-- name: add_names
-- Gives numbers to names that have none.
INSERT INTO stepwell.names (name)
SELECT given.name FROM unnest($names::text[]) AS given (name)
WHERE (SELECT n.number FROM stepwell.names AS n WHERE n.name = given.name) IS NULL
ORDER BY 1
ON CONFLICT DO NOTHING

-- name: append
-- One usual row each for runs that stay with their worker, or are completed by it: the answer is how many got theirs. It
-- locks without waiting and judges from the rows it locked, as `extend` and `change` do, which are asked about all of
-- them where some did not: what was applied here is done there. Numbers come as one text each.
WITH {named},
b AS MATERIALIZED (
    SELECT * FROM unnest($ids::uuid[], $tokens::text::integer[], $seqs::text::integer[],
        $positions::text::integer[], $nodes::text::integer[], $values::bytea[], $starts::text::bigint[],
        $ends::text::bigint[], $statuses::text::text[], $over::text::boolean[])
        AS b (id, token, seq, position, node, value, started_at, finished_at, status, over)
),
locked AS MATERIALIZED (
    SELECT id, worker, token, seq, cancel_requested_at FROM stepwell.runs
    WHERE id = ANY($ids::uuid[]) FOR NO KEY UPDATE SKIP LOCKED
),
sound AS MATERIALIZED (
    SELECT b.* FROM b JOIN locked AS l ON l.id = b.id AND l.worker = $worker AND l.token = b.token AND l.seq = b.seq
    WHERE (SELECT array_position(numbers, NULL) FROM named) IS NULL AND (l.cancel_requested_at IS NULL OR NOT b.over)
),
changed AS (
    UPDATE stepwell.runs AS r
    SET seq = v.seq + 1, position = v.position, crashes = 0, wake_at = NULL, awaiting = NULL, parked_at = NULL,
        damaged = NULL, damaged_by = NULL, damage_count = NULL, updated_at = {now},
        status = v.status,
        worker = CASE WHEN NOT v.over THEN r.worker END,
        due_at = CASE WHEN NOT v.over THEN r.due_at END,
        finished_at = CASE WHEN v.over THEN {now} ELSE r.finished_at END
    FROM sound AS v WHERE r.id = v.id
),
written AS (
    INSERT INTO stepwell.journal (run_id, seq, node, value, started_at, finished_at, worker)
    SELECT v.id, v.seq + 1, (SELECT numbers FROM named)[v.node], v.value, v.started_at, v.finished_at,
        (SELECT numbers FROM named)[1]
    FROM sound AS v
)
SELECT count(*) FROM sound

-- name: extend
-- Lean advances: runs that stay with their worker. It locks without waiting, judges from the rows it locked alone, and
-- writes only for the runs whose verdict is ok; a journal row that is there already is a bug, and loud. A column of
-- journal rows that holds nothing unusual comes as an empty array.
WITH {named},
b AS MATERIALIZED (SELECT * FROM {b(id uuid, token integer, seq integer, n integer, position integer)+at}),
locked AS MATERIALIZED (
    SELECT id, worker, token, seq FROM stepwell.runs WHERE id = ANY(ARRAY(SELECT id FROM b)) FOR NO KEY UPDATE SKIP LOCKED
),
judged AS MATERIALIZED (
    SELECT b.at, b.id, b.n, b.position, CASE
        WHEN (SELECT array_position(numbers, NULL) FROM named) IS NOT NULL THEN 'unnamed'
        WHEN l.id IS NULL AND (SELECT true FROM stepwell.runs AS r WHERE r.id = b.id) THEN 'busy'
        WHEN l.id IS NULL OR l.worker IS DISTINCT FROM $worker OR l.token <> b.token THEN 'lost'
        WHEN b.n > 0 AND l.seq = b.seq + b.n THEN 'done'
        WHEN l.seq <> b.seq THEN 'lost'
        ELSE 'ok' END AS verdict
    FROM b LEFT JOIN locked AS l ON l.id = b.id
),
changed AS (
    UPDATE stepwell.runs AS r
    SET seq = r.seq + v.n, position = v.position, crashes = 0, wake_at = NULL, awaiting = NULL, parked_at = NULL,
        damaged = NULL, damaged_by = NULL, damage_count = NULL, updated_at = {now}
    FROM judged AS v WHERE r.id = v.id AND v.verdict = 'ok'
),
written AS (
    INSERT INTO stepwell.journal (run_id, {journal.columns})
    SELECT v.id, {journal.values} FROM {x({journal.given})} JOIN judged AS v ON v.at = x.at AND v.verdict = 'ok'
)
SELECT verdict FROM judged ORDER BY at

-- name: change
-- Advances of every other sort, with the messages, the children and the parents they concern. A run's own change and
-- the messages to it are merged, since of two changes to one row in one statement only one would take effect.
-- One that lets go of its run, and did so before, finds it without a worker, under the same token and with its rows; a run
-- of that length that is still held has rows of another commit, so that it is lost. It is refused when a cancel was requested of which it does not know.
-- One that rests on the absence of a message is refused when such a message is behind those that were seen. The mailbox
-- is another table, of which the statement's older snapshot may lack what the locked row counts already; so it is also
-- refused when the last message that the row counts is not in the snapshot. Messages of a run are numbered under its
-- row's lock: where the last one is seen, all are. The first verdict comes with the lanes in which runs became due.
WITH clock AS MATERIALIZED (SELECT {now} AS now),
behind AS MATERIALIZED (SELECT {turn} AS turn),
{named},
b AS MATERIALIZED (
    SELECT * FROM {b(id uuid, token integer, seq integer, n integer, seen integer, unless_asked boolean, position integer,
        status text, release boolean, due_at bigint, wake_at bigint, awaiting text, parked_at bigint, ended boolean,
        absent_kind text, absent_names text)+at}
),
ends AS MATERIALIZED (
    SELECT * FROM {m(at integer, parent_id uuid, name text, value bytea, error bytea)}
),
locked AS MATERIALIZED (
    SELECT id, lane, worker, token, seq, messages, status, position, due_at, wake_at, awaiting, parked_at, finished_at, crashes,
        cancel_requested_at
    FROM stepwell.runs WHERE id = ANY(ARRAY(SELECT id FROM b UNION ALL SELECT parent_id FROM ends))
    FOR NO KEY UPDATE SKIP LOCKED
),
judged AS MATERIALIZED (
    SELECT b.*, CASE
        WHEN (SELECT array_position(numbers, NULL) FROM named) IS NOT NULL THEN 'unnamed'
        WHEN l.id IS NULL AND (SELECT true FROM stepwell.runs AS r WHERE r.id = b.id) THEN 'busy'
        WHEN b.release AND b.n > 0 AND l.worker IS NULL AND l.token = b.token AND l.seq = b.seq + b.n THEN 'done'
        WHEN l.id IS NULL OR l.worker IS DISTINCT FROM $worker OR l.token <> b.token THEN 'lost'
        WHEN b.n > 0 AND NOT b.release AND l.seq = b.seq + b.n THEN 'done'
        WHEN l.seq <> b.seq THEN 'lost'
        WHEN b.absent_kind IS NOT NULL AND b.seen <> l.messages AND (
            b.seen > l.messages
            OR (SELECT true FROM stepwell.mailbox AS m WHERE m.run_id = b.id AND m.n = l.messages) IS NULL
            OR (SELECT true FROM unnest(b.absent_names::text[]) AS absent (name)
                WHERE (SELECT true FROM stepwell.mailbox AS m
                    WHERE m.run_id = b.id AND m.kind = b.absent_kind AND m.name = absent.name AND NOT m.taken
                        AND m.n > b.seen LIMIT 1) LIMIT 1)
        ) THEN 'message'
        WHEN b.unless_asked AND l.cancel_requested_at IS NOT NULL THEN 'cancel'
        WHEN EXISTS (
            SELECT 1 FROM ends AS m
            WHERE m.at = b.at AND NOT EXISTS (SELECT 1 FROM locked WHERE locked.id = m.parent_id)
                AND (SELECT true FROM stepwell.runs AS r WHERE r.id = m.parent_id)
        ) THEN 'busy'
        ELSE 'ok' END AS verdict
    FROM b LEFT JOIN locked AS l ON l.id = b.id
),
own AS MATERIALIZED (SELECT * FROM judged WHERE verdict = 'ok'),
told AS MATERIALIZED (
    SELECT m.parent_id, m.name, m.value, m.error, own.id AS sender,
        l.messages + row_number() OVER (PARTITION BY m.parent_id ORDER BY m.at) AS n
    FROM ends AS m JOIN own ON own.at = m.at JOIN locked AS l ON l.id = m.parent_id
    WHERE l.status NOT IN ('completed', 'failed', 'canceled')
        AND NOT EXISTS (SELECT 1 FROM own AS parent WHERE parent.id = m.parent_id AND parent.ended)
),
merged AS MATERIALIZED (
    SELECT l.id, l.lane, own.id IS NOT NULL AS own, coalesce(p.messages, 0) AS messages, coalesce(own.n, 0) AS n,
        l.finished_at AS finished_before,
        coalesce(own.position, l.position) AS position, coalesce(own.ended, false) AS ended,
        CASE WHEN own.id IS NULL THEN l.status ELSE own.status END AS status,
        CASE WHEN own.id IS NULL THEN l.worker WHEN NOT own.release THEN $worker END AS worker,
        CASE WHEN own.id IS NULL THEN l.due_at WHEN own.due_at <= 0 THEN (SELECT turn FROM behind)
            ELSE own.due_at END AS due_at,
        CASE WHEN own.id IS NULL THEN l.wake_at ELSE own.wake_at END AS wake_at,
        CASE WHEN own.id IS NULL THEN l.awaiting ELSE own.awaiting END AS awaiting,
        CASE WHEN own.id IS NULL THEN l.parked_at ELSE own.parked_at END AS parked_at
    FROM locked AS l
    LEFT JOIN own ON own.id = l.id
    LEFT JOIN (SELECT parent_id, count(*) AS messages FROM told GROUP BY parent_id) AS p ON p.parent_id = l.id
    WHERE own.id IS NOT NULL OR p.messages > 0
),
woken AS MATERIALIZED (
    SELECT *, messages > 0 AND worker IS NULL AND status = 'suspended' AND awaiting IS NULL AS wakes FROM merged
),
changed AS (
    UPDATE stepwell.runs AS r
    SET seq = r.seq + v.n, messages = r.messages + v.messages, position = v.position, worker = v.worker,
        wake_at = v.wake_at,
        status = CASE WHEN v.wakes THEN 'running' ELSE v.status END,
        due_at = CASE WHEN v.wakes THEN (SELECT turn FROM behind) ELSE v.due_at END,
        awaiting = v.awaiting, parked_at = v.parked_at, updated_at = clock.now,
        damaged = CASE WHEN v.own THEN NULL ELSE r.damaged END,
        damaged_by = CASE WHEN v.own THEN NULL ELSE r.damaged_by END,
        damage_count = CASE WHEN v.own THEN NULL ELSE r.damage_count END,
        finished_at = CASE WHEN v.ended THEN clock.now ELSE v.finished_before END,
        crashes = CASE WHEN v.n > 0 THEN 0 ELSE r.crashes END
    FROM woken AS v, clock WHERE r.id = v.id
),
written AS (
    INSERT INTO stepwell.journal (run_id, {journal.columns})
    SELECT own.id, {journal.values} FROM {x({journal.given})} JOIN own ON own.at = x.at
),
taken AS (
    UPDATE stepwell.mailbox AS m
    SET taken = true, value = NULL, error = NULL, key = CASE WHEN NOT c.frees THEN m.key END
    FROM {c(at integer, n integer, frees boolean)} JOIN own ON own.at = c.at
    WHERE m.run_id = own.id AND m.n = c.n
),
recounted AS (
    UPDATE stepwell.journal AS j SET detail = r.detail
    FROM {r(at integer, seq integer, detail bytea)} JOIN own ON own.at = r.at
    WHERE j.run_id = own.id AND j.seq = r.seq AND j.status = 'refused'
),
delivered AS (
    INSERT INTO stepwell.mailbox (run_id, n, kind, name, value, error, sender)
    SELECT parent_id, n, 'child', name, value, error, sender FROM told
),
spawned AS MATERIALIZED (
    SELECT s.* FROM {s(at integer, {new_run.given})} JOIN own ON own.at = s.at
),
inserted_runs AS (
    INSERT INTO stepwell.runs ({new_run.columns})
    SELECT {new_run.values} FROM spawned AS n, clock
    ON CONFLICT (id) DO NOTHING
),
inserted_inputs AS (
    INSERT INTO stepwell.inputs (run_id, value) SELECT id, value FROM spawned ON CONFLICT (run_id) DO NOTHING
)
SELECT verdict, CASE WHEN at = 1 THEN (
    SELECT coalesce(array_agg(DISTINCT lane), '{}') FROM woken WHERE wakes OR own AND worker IS NULL AND due_at IS NOT NULL
) END AS due
FROM judged ORDER BY at

-- name: tell_parent
-- The end of a child reaches its parent, unless that has ended; it is due if it is parked for a child.
UPDATE stepwell.runs
SET messages = messages + 1, updated_at = {now},
    due_at = CASE WHEN worker IS NULL AND status = 'suspended' AND awaiting IS NULL THEN {turn} ELSE due_at END,
    status = CASE WHEN worker IS NULL AND status = 'suspended' AND awaiting IS NULL THEN 'running' ELSE status END
WHERE id = $run_id AND status NOT IN ('completed', 'failed', 'canceled')
RETURNING messages

-- name: add_message
-- A message in a run's mailbox.
INSERT INTO stepwell.mailbox (run_id, n, kind, name, value, error, key, sender)
VALUES ($run_id, $n, $kind, $name, $value, $error, $key, $sender)
