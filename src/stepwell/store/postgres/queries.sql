-- Plans are made once a connection, mostly while the tables are empty, and kept when they have grown. So a question
-- about another row is a scalar sub-select, rows that were found by one scan are met again by `= ANY(ARRAY(…))`, and
-- some joins are LATERAL with a LIMIT or an OFFSET: these are only ever answered row by row, through an index. For
-- EXISTS, IN or a plain join the whole table may be hashed: with many runs due, each claim would read all there are.

-- name: has_schema
-- Whether the tables were ever made; asked of the catalog's rows, since its cache may not have heard of another's.
SELECT EXISTS (
    SELECT 1 FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
    WHERE n.nspname = $1 AND c.relname = 'versions'
)

-- name: schema_version
-- The number of the newest migration applied.
SELECT coalesce(max(version), 0) FROM stepwell.versions

-- name: record_migration
-- Says that a migration was applied.
INSERT INTO stepwell.versions (version, name, applied_at) VALUES ($1, $2, {now})

-- name: find_lane
-- The numbers of lanes in the order asked, NULL for one that is not stored.
SELECT d.lane
FROM unnest($1::text[], $2::text[], $3::text[]) WITH ORDINALITY AS wanted (queue, workflow, fingerprint, at)
LEFT JOIN stepwell.definitions AS d USING (queue, workflow, fingerprint)
ORDER BY wanted.at

-- name: add_lane
-- Stores lanes with the outlines of their workflows; one that another process stores at the same moment stays.
INSERT INTO stepwell.definitions (queue, workflow, fingerprint, outline)
SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::bytea[]) ORDER BY 1, 2, 3
ON CONFLICT DO NOTHING

-- name: find_key
-- The first runs of these workflows and keys, with their inputs where they are others than the runs given; asked after
-- add_runs, by a snapshot of its own.
SELECT wanted.id::text, first.id::text, first.status,
    CASE WHEN first.id <> wanted.id THEN (SELECT i.value FROM stepwell.inputs AS i WHERE i.run_id = first.id) END
FROM unnest($1::text[], $2::text[], $3::uuid[]) AS wanted (workflow, key, id), LATERAL (
    SELECT r.id, r.status FROM stepwell.runs AS r WHERE r.workflow = wanted.workflow AND r.key = wanted.key LIMIT 1
) AS first

-- name: add_runs
-- Writes new runs with their inputs, in the order given, which is that of their keys; what was written before stays.
-- Gives how many lanes are not stored for their workflows, and writes nothing then: nobody could read such runs.
WITH clock AS MATERIALIZED (SELECT {now} AS now),
unknown AS MATERIALIZED (
    SELECT count(*) AS lanes
    FROM (SELECT DISTINCT lane, workflow FROM unnest($2::integer[], $3::text[]) AS given (lane, workflow)) AS n
    WHERE (SELECT d.workflow FROM stepwell.definitions AS d WHERE d.lane = n.lane) IS DISTINCT FROM n.workflow
),
made AS (
    INSERT INTO stepwell.runs (id, lane, workflow, key, status, position, token, seq, mail, crashes, due_at, wake_at,
        parent_id, parent_node, created_at, updated_at)
    SELECT n.id, n.lane, n.workflow, n.key, 'pending', 0, 0, 0, 0, 0,
        CASE WHEN n.delay > 0 THEN clock.now + n.delay ELSE {turn} END,
        CASE WHEN n.delay > 0 THEN clock.now + n.delay END, n.parent_id, n.parent_node, clock.now, clock.now
    FROM clock, unnest($1::uuid[], $2::integer[], $3::text[], $4::text[], $5::bigint[], $6::uuid[], $7::text[])
        WITH ORDINALITY AS n (id, lane, workflow, key, delay, parent_id, parent_node, at)
    WHERE (SELECT lanes FROM unknown) = 0
    ORDER BY n.at
    ON CONFLICT DO NOTHING
    RETURNING id
),
written AS (
    INSERT INTO stepwell.inputs (run_id, value)
    SELECT n.id, n.value FROM unnest($1::uuid[], $8::bytea[]) AS n (id, value) JOIN made USING (id)
)
SELECT lanes FROM unknown

-- name: claim
-- Leases due runs of these lanes, suspects apart: what is due at once and timers that are over, half of the room for
-- each, and more of the one where there are not enough of the other; up to the bytes, one at least. Always a row: whether
-- the worker lives, the instant, whether the bytes ended it, and when nothing was due, the next timer. Rows that others
-- hold are passed over, to be looked for again in 50 ms, and what the runs wait for stays.
WITH clock AS MATERIALIZED (SELECT {now} AS now),
mine AS MATERIALIZED (SELECT id FROM stepwell.workers WHERE id = $1 FOR KEY SHARE),
suspects AS MATERIALIZED (
    SELECT due.id
    FROM mine, unnest($2::integer[]) WITH ORDINALITY AS wanted (lane, turn), LATERAL (
        SELECT r.id FROM stepwell.runs AS r
        WHERE r.lane = wanted.lane AND r.worker IS NULL AND r.due_at IS NOT NULL AND r.crashes >= 2 AND r.crashes = 2
            AND r.due_at <= (SELECT now FROM clock)
        ORDER BY r.due_at, r.id LIMIT $4::integer FOR NO KEY UPDATE SKIP LOCKED
    ) AS due
    LIMIT $4::integer
),
worst AS MATERIALIZED (
    SELECT due.id
    FROM mine, unnest($2::integer[]) WITH ORDINALITY AS wanted (lane, turn), LATERAL (
        SELECT r.id FROM stepwell.runs AS r
        WHERE r.lane = wanted.lane AND r.worker IS NULL AND r.due_at IS NOT NULL AND r.crashes >= 2 AND r.crashes > 2
            AND r.due_at <= (SELECT now FROM clock)
        ORDER BY r.crashes, r.due_at, r.id
        LIMIT (SELECT CASE WHEN $5::boolean AND $4::integer > 0 AND count(*) = 0 THEN 1 ELSE 0 END FROM suspects)
        FOR NO KEY UPDATE SKIP LOCKED
    ) AS due
    LIMIT (SELECT CASE WHEN $5::boolean AND $4::integer > 0 AND count(*) = 0 THEN 1 ELSE 0 END FROM suspects)
),
room AS MATERIALIZED (
    SELECT $3::integer - (SELECT count(*) FROM suspects) - (SELECT count(*) FROM worst) AS n
),
timers AS MATERIALIZED (
    SELECT due.id
    FROM mine, unnest($2::integer[]) WITH ORDINALITY AS wanted (lane, turn), LATERAL (
        SELECT r.id FROM stepwell.runs AS r
        WHERE r.lane = wanted.lane AND r.worker IS NULL AND r.due_at IS NOT NULL AND r.crashes < 2
            AND r.due_at > 0 AND r.due_at <= (SELECT now FROM clock)
        ORDER BY r.due_at, r.id LIMIT (SELECT (n + $6::boolean::integer) / 2 FROM room) FOR NO KEY UPDATE SKIP LOCKED
    ) AS due
    LIMIT (SELECT (n + $6::boolean::integer) / 2 FROM room)
),
at_once AS MATERIALIZED (
    SELECT due.id
    FROM mine, unnest($2::integer[]) WITH ORDINALITY AS wanted (lane, turn), LATERAL (
        SELECT r.id FROM stepwell.runs AS r
        WHERE r.lane = wanted.lane AND r.worker IS NULL AND r.due_at IS NOT NULL AND r.crashes < 2
            AND r.due_at <= 0
        ORDER BY r.due_at, r.id LIMIT (SELECT n - (SELECT count(*) FROM timers) FROM room) FOR NO KEY UPDATE SKIP LOCKED
    ) AS due
    LIMIT (SELECT n - (SELECT count(*) FROM timers) FROM room)
),
more_timers AS MATERIALIZED (
    SELECT due.id
    FROM mine, unnest($2::integer[]) WITH ORDINALITY AS wanted (lane, turn), LATERAL (
        SELECT r.id FROM stepwell.runs AS r
        WHERE r.lane = wanted.lane AND r.worker IS NULL AND r.due_at IS NOT NULL AND r.crashes < 2
            AND r.due_at > 0 AND r.due_at <= (SELECT now FROM clock) AND r.id <> ALL(ARRAY(SELECT id FROM timers))
        ORDER BY r.due_at, r.id
        LIMIT (SELECT n - (SELECT count(*) FROM timers) - (SELECT count(*) FROM at_once) FROM room)
        FOR NO KEY UPDATE SKIP LOCKED
    ) AS due
    LIMIT (SELECT n - (SELECT count(*) FROM timers) - (SELECT count(*) FROM at_once) FROM room)
),
found AS MATERIALIZED (
    SELECT id, 0 AS kind, 0::bigint AS place FROM suspects
    UNION ALL SELECT id, 0, 0 FROM worst
    UNION ALL SELECT id, CASE WHEN $6::boolean THEN 1 ELSE 3 END, row_number() OVER () FROM timers
    UNION ALL SELECT id, 2, row_number() OVER () FROM at_once
    UNION ALL SELECT id, 3, row_number() OVER () + (SELECT count(*) FROM timers) FROM more_timers
),
sized AS MATERIALIZED (
    SELECT f.id, row_number() OVER w AS place, sum(coalesce((
        SELECT octet_length(i.value) FROM stepwell.inputs AS i WHERE i.run_id = f.id
    ), 0)) OVER w AS bytes
    FROM found AS f WINDOW w AS (ORDER BY f.place, f.kind, f.id ROWS UNBOUNDED PRECEDING)
),
chosen AS MATERIALIZED (SELECT id FROM sized WHERE place = 1 OR bytes <= $7::bigint),
leased AS (
    UPDATE stepwell.runs AS r
    SET worker = $1, token = r.token + 1, updated_at = (SELECT now FROM clock),
        status = CASE r.status WHEN 'pending' THEN 'running' ELSE r.status END
    WHERE r.id = ANY(ARRAY(SELECT id FROM chosen))
    RETURNING r.id, r.due_at, r.token, r.seq, r.mail, r.crashes, r.lane, r.position, r.status, r.wake_at, r.awaiting,
        r.parked_at, r.parent_id, r.parent_node
),
answer AS MATERIALIZED (
    SELECT EXISTS (SELECT 1 FROM mine) AS alive, clock.now,
        (SELECT count(*) FROM found) > (SELECT count(*) FROM chosen) AS cut,
        CASE WHEN NOT EXISTS (SELECT 1 FROM chosen) THEN (
            SELECT min(next.due_at) FROM unnest($2::integer[]) AS wanted (lane), LATERAL (
                SELECT CASE WHEN r.due_at > (SELECT now FROM clock) THEN r.due_at
                    ELSE (SELECT now FROM clock) + 50000 END AS due_at
                FROM stepwell.runs AS r
                WHERE r.lane = wanted.lane AND r.worker IS NULL AND r.due_at IS NOT NULL
                    AND (r.due_at > (SELECT now FROM clock) OR r.crashes < 2
                        OR $4::integer > 0 AND (r.crashes = 2 OR $5::boolean))
                ORDER BY r.due_at LIMIT 1
            ) AS next
        ) END AS next_due
    FROM clock
)
SELECT a.alive, a.now, a.next_due, a.cut, l.id::text, l.token, l.seq, l.mail, l.crashes, l.lane, l.position, l.status,
    l.wake_at, l.awaiting, l.parked_at, l.parent_id::text, l.parent_node,
    (SELECT i.value FROM stepwell.inputs AS i WHERE i.run_id = l.id) AS value
FROM answer AS a LEFT JOIN leased AS l ON true
ORDER BY l.due_at, l.id

-- name: journal_of
-- The journals of runs, in order.
SELECT j.run_id::text, {journal.entry}
FROM stepwell.journal AS j WHERE j.run_id = ANY($1::uuid[]) ORDER BY j.run_id, j.seq

-- name: journal_sizes
-- The bytes of runs' journals, in the order asked; no large value is read for it.
SELECT coalesce((
    SELECT sum(coalesce(octet_length(j.value), 0) + coalesce(octet_length(j.detail), 0)
        + coalesce(octet_length(j.error), 0))
    FROM stepwell.journal AS j WHERE j.run_id = wanted.id
), 0)::bigint
FROM unnest($1::uuid[]) WITH ORDINALITY AS wanted (id, at) ORDER BY wanted.at

-- name: journal_parts
-- Rows of some nodes of runs, in order: of some all, of the others those from the last outcome on, found by their
-- items, which are named in order: the last outcome itself, and the attempts after it.
SELECT wanted.run_id::text, part.*
FROM unnest($1::uuid[], $2::text[], $3::boolean[]) AS wanted (run_id, node, is_last), LATERAL (
    SELECT number FROM stepwell.names WHERE name = wanted.node LIMIT 1
) AS named, LATERAL (
    SELECT coalesce(CASE WHEN wanted.is_last THEN (
        SELECT j.item FROM stepwell.journal AS j
        WHERE j.run_id = wanted.run_id AND j.node = named.number AND j.phase = 'do' AND j.name = '' AND j.n = 0
        ORDER BY j.item DESC LIMIT 1
    ) END, '') AS item OFFSET 0
) AS since, LATERAL (
    SELECT {journal.entry}
    FROM stepwell.journal AS j
    WHERE j.run_id = wanted.run_id AND j.node = named.number AND j.item >= since.item
        AND (j.n = 0 AND j.name = '' OR j.item > since.item OR since.item = '')
    OFFSET 0
) AS part
ORDER BY 1, part.seq

-- name: mail_count
-- How much mail the runs ever had; asked before the mailbox is read.
SELECT id::text, mail FROM stepwell.runs WHERE id = ANY($1::uuid[])

-- name: find_messages
-- The first unread message of a name in each of these mailboxes, behind a number.
SELECT wanted.run_id::text, first.n, first.kind, first.name, first.value, first.error
FROM unnest($1::uuid[], $2::text[], $3::text[], $4::integer[]) AS wanted (run_id, kind, name, after), LATERAL (
    SELECT m.n, m.kind, m.name, m.value, m.error FROM stepwell.mailbox AS m
    WHERE m.run_id = wanted.run_id AND m.kind = wanted.kind AND m.name = wanted.name AND NOT m.taken
        AND m.n > wanted.after
    ORDER BY m.n LIMIT 1
) AS first

-- name: add_names
-- Gives numbers to names that have none.
INSERT INTO stepwell.names (name)
SELECT given.name FROM unnest($1::text[]) AS given (name)
WHERE (SELECT n.number FROM stepwell.names AS n WHERE n.name = given.name) IS NULL
ORDER BY 1
ON CONFLICT DO NOTHING

-- name: extend
-- Lean advances: runs that stay with their worker. It locks without waiting, judges from the rows it locked alone, and
-- writes only for the runs whose verdict is ok; a journal row that is there already is a bug, and loud. A column of
-- journal rows that holds nothing unusual comes as an empty array.
WITH named AS MATERIALIZED (
    SELECT array_agg((SELECT n.number FROM stepwell.names AS n WHERE n.name = given.name) ORDER BY given.at) AS numbers
    FROM unnest($24::text[]) WITH ORDINALITY AS given (name, at)
),
b AS MATERIALIZED (
    SELECT * FROM unnest($2::uuid[], $3::integer[], $4::integer[], $5::integer[], $6::integer[])
        WITH ORDINALITY AS b (id, token, seq, n, position, at)
),
locked AS MATERIALIZED (
    SELECT id, worker, token, seq FROM stepwell.runs WHERE id = ANY($2::uuid[]) FOR NO KEY UPDATE SKIP LOCKED
),
judged AS MATERIALIZED (
    SELECT b.at, b.id, b.n, b.position, CASE
        WHEN (SELECT array_position(numbers, NULL) FROM named) IS NOT NULL THEN 'unnamed'
        WHEN l.id IS NULL AND (SELECT true FROM stepwell.runs AS r WHERE r.id = b.id) THEN 'busy'
        WHEN l.id IS NULL OR l.worker IS DISTINCT FROM $1 OR l.token <> b.token THEN 'lost'
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
    INSERT INTO stepwell.journal (run_id, seq, node, item, phase, n, kind, attempt, status, value, detail, error,
        retry_at, started_at, finished_at, worker, name)
    SELECT v.id, x.seq, (SELECT numbers FROM named)[x.node], coalesce(x.item, ''), coalesce(x.phase, 'do'),
        coalesce(x.n, 0), x.kind, x.attempt, x.status, x.value, x.detail, x.error, x.retry_at, x.started_at,
        x.finished_at, (SELECT numbers FROM named)[coalesce(x.worker, 1)], coalesce(x.name, '')
    FROM unnest($7::integer[], $8::integer[], $9::integer[], $10::text[], $11::text[], $12::integer[], $13::text[],
        $14::integer[], $15::text[], $16::bytea[], $17::bytea[], $18::bytea[], $19::bigint[],
        $20::bigint[], $21::bigint[], $22::integer[], $23::text[])
        AS x (at, seq, node, item, phase, n, kind, attempt, status, value, detail, error, retry_at, started_at,
            finished_at, worker, name)
    JOIN judged AS v ON v.at = x.at AND v.verdict = 'ok'
)
SELECT verdict FROM judged ORDER BY at

-- name: change
-- Advances of every other sort, with the mail, the children and the parents they concern. A run's own change and the
-- mail to it are merged, since of two changes to one row in one statement only one would take effect.
-- One that rests on the absence of a message is refused when such a message is behind those that were seen. The mailbox
-- is another table, of which the statement's older snapshot may lack what the locked row counts already; so it is also
-- refused when the last message that the row counts is not in the snapshot. Messages of a run are numbered under its
-- row's lock: where the last one is seen, all are.
WITH clock AS MATERIALIZED (SELECT {now} AS now),
behind AS MATERIALIZED (SELECT {turn} AS turn),
named AS MATERIALIZED (
    SELECT array_agg((SELECT n.number FROM stepwell.names AS n WHERE n.name = given.name) ORDER BY given.at) AS numbers
    FROM unnest($49::text[]) WITH ORDINALITY AS given (name, at)
),
b AS MATERIALIZED (
    SELECT * FROM unnest($2::uuid[], $3::integer[], $4::integer[], $5::integer[], $6::integer[], $7::integer[],
        $8::text[], $9::boolean[], $10::bigint[], $11::bigint[], $12::text[], $13::bigint[], $14::boolean[],
        $46::text[], $47::text[])
        WITH ORDINALITY AS b (id, token, seq, n, seen, position, status, release, due_at, wake_at, awaiting, parked_at,
            ended, absent_kind, absent_name, at)
),
letters AS MATERIALIZED (
    SELECT * FROM unnest($15::integer[], $16::uuid[], $17::text[], $18::bytea[], $19::bytea[])
        AS m (at, addressee, name, value, error)
),
locked AS MATERIALIZED (
    SELECT id, worker, token, seq, mail, status, position, due_at, wake_at, awaiting, parked_at, finished_at, crashes
    FROM stepwell.runs WHERE id = ANY($2::uuid[] || $16::uuid[]) FOR NO KEY UPDATE SKIP LOCKED
),
judged AS MATERIALIZED (
    SELECT b.*, CASE
        WHEN (SELECT array_position(numbers, NULL) FROM named) IS NOT NULL THEN 'unnamed'
        WHEN l.id IS NULL AND (SELECT true FROM stepwell.runs AS r WHERE r.id = b.id) THEN 'busy'
        WHEN l.id IS NULL OR l.worker IS DISTINCT FROM $1 OR l.token <> b.token THEN 'lost'
        WHEN b.n > 0 AND l.seq = b.seq + b.n THEN 'done'
        WHEN l.seq <> b.seq THEN 'lost'
        WHEN b.absent_kind IS NOT NULL AND b.seen <> l.mail AND (
            b.seen > l.mail
            OR (SELECT true FROM stepwell.mailbox AS m WHERE m.run_id = b.id AND m.n = l.mail) IS NULL
            OR (SELECT true FROM stepwell.mailbox AS m
                WHERE m.run_id = b.id AND m.kind = b.absent_kind AND m.name = b.absent_name AND NOT m.taken
                    AND m.n > b.seen LIMIT 1)
        ) THEN 'mail'
        WHEN EXISTS (
            SELECT 1 FROM letters AS m
            WHERE m.at = b.at AND NOT EXISTS (SELECT 1 FROM locked WHERE locked.id = m.addressee)
                AND (SELECT true FROM stepwell.runs AS r WHERE r.id = m.addressee)
        ) THEN 'busy'
        ELSE 'ok' END AS verdict
    FROM b LEFT JOIN locked AS l ON l.id = b.id
),
own AS MATERIALIZED (SELECT * FROM judged WHERE verdict = 'ok'),
posted AS MATERIALIZED (
    SELECT m.addressee, m.name, m.value, m.error,
        l.mail + row_number() OVER (PARTITION BY m.addressee ORDER BY m.at) AS n
    FROM letters AS m JOIN own ON own.at = m.at JOIN locked AS l ON l.id = m.addressee
    WHERE l.status NOT IN ('completed', 'failed', 'canceled')
        AND NOT EXISTS (SELECT 1 FROM own AS parent WHERE parent.id = m.addressee AND parent.ended)
),
merged AS MATERIALIZED (
    SELECT l.id, own.id IS NOT NULL AS own, coalesce(p.letters, 0) AS letters, coalesce(own.n, 0) AS n, l.finished_at AS finished_before,
        coalesce(own.position, l.position) AS position, coalesce(own.ended, false) AS ended,
        CASE WHEN own.id IS NULL THEN l.status ELSE own.status END AS status,
        CASE WHEN own.id IS NULL THEN l.worker WHEN NOT own.release THEN $1 END AS worker,
        CASE WHEN own.id IS NULL THEN l.due_at WHEN own.due_at <= 0 THEN (SELECT turn FROM behind)
            ELSE own.due_at END AS due_at,
        CASE WHEN own.id IS NULL THEN l.wake_at ELSE own.wake_at END AS wake_at,
        CASE WHEN own.id IS NULL THEN l.awaiting ELSE own.awaiting END AS awaiting,
        CASE WHEN own.id IS NULL THEN l.parked_at ELSE own.parked_at END AS parked_at
    FROM locked AS l
    LEFT JOIN own ON own.id = l.id
    LEFT JOIN (SELECT addressee, count(*) AS letters FROM posted GROUP BY addressee) AS p ON p.addressee = l.id
    WHERE own.id IS NOT NULL OR p.letters > 0
),
woken AS MATERIALIZED (
    SELECT *, letters > 0 AND worker IS NULL AND status = 'suspended' AND awaiting IS NULL AS wakes FROM merged
),
changed AS (
    UPDATE stepwell.runs AS r
    SET seq = r.seq + v.n, mail = r.mail + v.letters, position = v.position, worker = v.worker, wake_at = v.wake_at,
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
    INSERT INTO stepwell.journal (run_id, seq, node, item, phase, n, kind, attempt, status, value, detail, error,
        retry_at, started_at, finished_at, worker, name)
    SELECT own.id, x.seq, (SELECT numbers FROM named)[x.node], coalesce(x.item, ''), coalesce(x.phase, 'do'),
        coalesce(x.n, 0), x.kind, x.attempt, x.status, x.value, x.detail, x.error, x.retry_at, x.started_at,
        x.finished_at, (SELECT numbers FROM named)[coalesce(x.worker, 1)], coalesce(x.name, '')
    FROM unnest($20::integer[], $21::integer[], $22::integer[], $23::text[], $24::text[], $25::integer[], $26::text[],
        $27::integer[], $28::text[], $29::bytea[], $30::bytea[], $31::bytea[], $32::bigint[],
        $33::bigint[], $34::bigint[], $35::integer[], $48::text[])
        AS x (at, seq, node, item, phase, n, kind, attempt, status, value, detail, error, retry_at, started_at,
            finished_at, worker, name)
    JOIN own ON own.at = x.at
),
taken AS (
    UPDATE stepwell.mailbox AS m SET taken = true, value = NULL, error = NULL
    FROM unnest($36::integer[], $37::integer[]) AS c (at, n) JOIN own ON own.at = c.at
    WHERE m.run_id = own.id AND m.n = c.n
),
delivered AS (
    INSERT INTO stepwell.mailbox (run_id, n, kind, name, value, error)
    SELECT addressee, n, 'child', name, value, error FROM posted
),
spawned AS MATERIALIZED (
    SELECT s.* FROM unnest($38::integer[], $39::uuid[], $40::integer[], $41::text[], $42::bigint[], $43::uuid[],
        $44::text[], $45::bytea[]) AS s (at, id, lane, workflow, delay, parent_id, parent_node, value)
    JOIN own ON own.at = s.at
),
born AS (
    INSERT INTO stepwell.runs (id, lane, workflow, status, position, token, seq, mail, crashes, due_at, wake_at,
        parent_id, parent_node, created_at, updated_at)
    SELECT s.id, s.lane, s.workflow, 'pending', 0, 0, 0, 0, 0,
        CASE WHEN s.delay > 0 THEN clock.now + s.delay ELSE (SELECT turn FROM behind) END,
        CASE WHEN s.delay > 0 THEN clock.now + s.delay END, s.parent_id, s.parent_node, clock.now, clock.now
    FROM spawned AS s, clock
    ON CONFLICT (id) DO NOTHING
),
fed AS (
    INSERT INTO stepwell.inputs (run_id, value) SELECT id, value FROM spawned ON CONFLICT (run_id) DO NOTHING
)
SELECT verdict FROM judged ORDER BY at

-- name: post
-- The end of a child reaches its parent, unless that has ended; it is due if it is parked for a child.
UPDATE stepwell.runs
SET mail = mail + 1, updated_at = {now},
    due_at = CASE WHEN worker IS NULL AND status = 'suspended' AND awaiting IS NULL THEN {turn} ELSE due_at END,
    status = CASE WHEN worker IS NULL AND status = 'suspended' AND awaiting IS NULL THEN 'running' ELSE status END
WHERE id = $1 AND status NOT IN ('completed', 'failed', 'canceled')
RETURNING mail

-- name: add_mail
-- A letter in a run's mailbox.
INSERT INTO stepwell.mailbox (run_id, n, kind, name, value, error, key) VALUES ($1, $2, $3, $4, $5, $6, $7)

-- name: has_mail_key
-- Whether the run ever accepted this key.
SELECT 1 FROM stepwell.mailbox WHERE run_id = $1 AND key = $2

-- name: ring
-- A signal's letter, in one statement: locks the run, so that of those who wait for the lock each sees what the one
-- before it did, writes the letter unless the run ever accepted its key, and counts it; a run that waits for it is due,
-- and waits no more. No row: there is no such run.
WITH clock AS MATERIALIZED (SELECT {now} AS now),
addressee AS MATERIALIZED (
    SELECT id, status, worker, mail, lane, awaiting IS NOT DISTINCT FROM $2 AS wakes
    FROM stepwell.runs WHERE id = $1 FOR NO KEY UPDATE
),
written AS (
    INSERT INTO stepwell.mailbox (run_id, n, kind, name, value, key)
    SELECT id, mail + 1, 'signal', $2, $3, $4 FROM addressee
    WHERE status NOT IN ('completed', 'failed', 'canceled') AND (wakes OR NOT $5::boolean)
    ON CONFLICT (run_id, key) WHERE key IS NOT NULL DO NOTHING
    RETURNING run_id
),
counted AS (
    UPDATE stepwell.runs AS r
    SET mail = r.mail + 1, updated_at = clock.now,
        due_at = CASE WHEN a.wakes AND r.worker IS NULL THEN {turn} ELSE r.due_at END,
        status = CASE WHEN a.wakes AND r.status = 'suspended' THEN 'running' ELSE r.status END,
        awaiting = CASE WHEN a.wakes THEN NULL ELSE r.awaiting END,
        wake_at = CASE WHEN a.wakes THEN NULL ELSE r.wake_at END
    FROM addressee AS a, written AS w, clock WHERE r.id = a.id
)
SELECT status, wakes, worker IS NULL, EXISTS (SELECT 1 FROM written), lane FROM addressee

-- name: find_tree
-- The run and its descendants that have not ended, the root first; each once, even if rows name each other as parents.
WITH RECURSIVE tree (id, status) AS (
    SELECT id, status FROM stepwell.runs WHERE id = $1
    UNION
    SELECT child.id, child.status
    FROM tree, LATERAL (SELECT r.id, r.status FROM stepwell.runs AS r WHERE r.parent_id = tree.id OFFSET 0) AS child
)
SELECT id::text FROM tree WHERE status NOT IN ('completed', 'failed', 'canceled')

-- name: find_family
-- Whether a run is stored, and whose child it is.
SELECT parent_id::text, parent_node FROM stepwell.runs WHERE id = $1

-- name: lock_family
-- Locks runs in the order of their ids, which every cancel keeps, so that two of them never wait for each other.
SELECT id FROM stepwell.runs WHERE id = ANY($1::uuid[]) ORDER BY id FOR NO KEY UPDATE

-- name: cancel
-- Ends runs; whoever holds one can write no more.
UPDATE stepwell.runs
SET status = 'canceled', worker = NULL, token = token + 1, due_at = NULL, wake_at = NULL,
    awaiting = NULL, parked_at = NULL, finished_at = clock.now, updated_at = clock.now
FROM (SELECT {now} AS now) AS clock
WHERE id = ANY($1::uuid[])

-- name: enlist
-- Registers a worker, with what it serves.
INSERT INTO stepwell.workers (id, beat_at, started_at, host, pid, lanes, concurrency, lease)
SELECT $1, clock.now, clock.now, $2, $3, $4::integer[], $5, $6 FROM (SELECT {now} AS now) AS clock
ON CONFLICT (id) DO NOTHING

-- name: serve
-- Notes the lanes that a worker serves now.
UPDATE stepwell.workers SET lanes = $2::integer[] WHERE id = $1

-- name: beat
-- The worker lives; no row: it was buried.
UPDATE stepwell.workers SET beat_at = {now} WHERE id = $1 RETURNING 1

-- name: held
-- The runs leased to a worker with their tokens.
SELECT id::text, token FROM stepwell.runs WHERE worker = $1

-- name: list_workers
-- Everybody who is registered, and those who hold runs without being registered, whom a burial could not free of all.
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

-- name: dismiss
-- Removes a worker that left.
DELETE FROM stepwell.workers WHERE id = $1 RETURNING 1

-- name: free
-- Gives back the runs of a worker that left; one that another transaction holds is found by whoever looks next.
UPDATE stepwell.runs SET worker = NULL, token = token + 1, due_at = {turn}, updated_at = clock.now
FROM (SELECT {now} AS now) AS clock
WHERE id = ANY(ARRAY(SELECT id FROM stepwell.runs WHERE worker = $1 FOR NO KEY UPDATE SKIP LOCKED))
RETURNING 1

-- name: park_damaged
-- Puts off a run whose rows its worker does not understand, twice as long each time, up to an hour.
UPDATE stepwell.runs
SET worker = NULL, token = token + 1, updated_at = clock.now, damaged = $4, damaged_by = $5,
    damage_count = coalesce(damage_count, 0) + 1,
    due_at = clock.now + least(3600000000, 60000000::bigint << least(coalesce(damage_count, 0), 6))
FROM (SELECT {now} AS now) AS clock
WHERE id = $2 AND worker = $1 AND token = $3
RETURNING 1

-- name: recheck_damaged
-- Makes damaged runs due that another release or definition judged; one that is locked is being changed anyway.
UPDATE stepwell.runs SET due_at = {turn}, updated_at = clock.now
FROM (SELECT {now} AS now) AS clock
WHERE id = ANY(ARRAY(
    SELECT id FROM stepwell.runs
    WHERE lane = ANY($1::integer[]) AND damaged IS NOT NULL AND damaged_by IS DISTINCT FROM $2 AND worker IS NULL
        AND due_at > 0
    FOR NO KEY UPDATE SKIP LOCKED
))
RETURNING 1

-- name: give_back
-- Gives back some runs of a worker, each only under the token it is leased with.
UPDATE stepwell.runs AS r
SET worker = NULL, token = r.token + 1, updated_at = clock.now,
    due_at = CASE WHEN $4::bigint > 0 THEN clock.now + $4::bigint ELSE {turn} END
FROM (SELECT {now} AS now) AS clock
WHERE r.id IN (
    SELECT held.id
    FROM unnest($2::uuid[], $3::integer[]) AS named (id, token)
    JOIN stepwell.runs AS held ON held.id = named.id AND held.token = named.token
    WHERE held.worker = $1 FOR NO KEY UPDATE OF held SKIP LOCKED
)

-- name: free_crashed
-- Buries: removes a dead worker, at whose silence it looks again under the lock of its row, and gives back the runs it
-- died during; one that another transaction holds is found the next time. In one statement, so that a worker that stops
-- in the middle holds no lock.
WITH gone AS (
    DELETE FROM stepwell.workers WHERE id = $1 AND ($2::bigint IS NULL OR beat_at < {now} - $2::bigint) RETURNING 1
),
held AS MATERIALIZED (
    SELECT id FROM stepwell.runs WHERE worker = $1 AND EXISTS (SELECT 1 FROM gone) FOR NO KEY UPDATE SKIP LOCKED
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
UPDATE stepwell.runs SET worker = NULL, token = token + 1, due_at = {turn}, updated_at = clock.now
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
            SELECT true FROM stepwell.mailbox AS m
            WHERE m.run_id = r.id AND m.kind = 'signal' AND m.name = r.awaiting AND NOT m.taken LIMIT 1))
        AND (
            SELECT true FROM stepwell.runs AS child
            WHERE child.parent_id = r.id AND child.status NOT IN ('completed', 'failed', 'canceled') LIMIT 1) IS NULL
    FOR NO KEY UPDATE SKIP LOCKED
))
RETURNING 1

-- name: find_run
-- One run, with its outline and input, if they are there.
SELECT r.id::text, r.key, r.workflow, r.status, r.position, r.awaiting, CASE WHEN r.worker IS NULL THEN r.wake_at END,
    r.parent_id::text, r.created_at, r.updated_at, r.finished_at, d.outline, i.value, r.mail,
    r.crashes, r.worker, r.due_at, r.lane, d.queue, d.fingerprint
FROM stepwell.runs AS r
LEFT JOIN stepwell.definitions AS d ON d.lane = r.lane
LEFT JOIN stepwell.inputs AS i ON i.run_id = r.id
WHERE r.id = $1

-- name: list_runs
-- A page of runs, newest first, without inputs.
SELECT r.id::text, r.key, r.workflow, r.status, r.position, r.awaiting, CASE WHEN r.worker IS NULL THEN r.wake_at END,
    r.parent_id::text, r.created_at, r.updated_at, r.finished_at, d.outline, NULL::bytea, r.mail,
    r.crashes, r.worker, r.due_at, r.lane, d.queue, d.fingerprint
FROM stepwell.runs AS r
LEFT JOIN stepwell.definitions AS d ON d.lane = r.lane
WHERE {conditions}
ORDER BY {order} DESC LIMIT $1::bigint

-- name: telling_rows
-- The rows of runs that tell their failures and what was undone.
SELECT j.run_id::text, {journal.told}
FROM stepwell.journal AS j
WHERE j.run_id = ANY($1::uuid[]) AND j.n = 0 AND (j.status = 'failed' OR j.phase = 'undo')
ORDER BY j.run_id, j.seq

-- name: find_ref
-- Whether a run is stored.
SELECT 1 FROM stepwell.runs WHERE id = $1

-- name: find_ended
-- The status of runs.
SELECT id::text, status FROM stepwell.runs WHERE id = ANY($1::uuid[])

-- name: find_outline
-- The outline of the workflow of a lane.
SELECT outline FROM stepwell.definitions WHERE lane = $1

-- name: lane_of
-- The lane of a run.
SELECT lane FROM stepwell.runs WHERE id = $1

-- name: list_runs_by_id
-- The runs of these ids as a page, newest first, without inputs.
SELECT r.id::text, r.key, r.workflow, r.status, r.position, r.awaiting, CASE WHEN r.worker IS NULL THEN r.wake_at END,
    r.parent_id::text, r.created_at, r.updated_at, r.finished_at, d.outline, NULL::bytea, r.mail, r.crashes, r.worker,
    r.due_at, r.lane, d.queue, d.fingerprint
FROM stepwell.runs AS r
LEFT JOIN stepwell.definitions AS d ON d.lane = r.lane
WHERE r.id = ANY($1::uuid[])
ORDER BY r.id DESC

-- name: open_retries
-- Of each run the newest failed attempt at what has no outcome yet, among its last hundred failed attempts.
SELECT wanted.id::text, {journal.told}
FROM unnest($1::uuid[]) AS wanted (id), LATERAL (
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
WHERE run_id = ANY($1::uuid[]) AND kind = 'signal' AND NOT taken GROUP BY run_id, name ORDER BY run_id, name

-- name: living_children
-- The children of runs that have not ended, oldest first.
SELECT id::text, parent_id::text, workflow, status FROM stepwell.runs
WHERE parent_id = ANY($1::uuid[]) AND status NOT IN ('completed', 'failed', 'canceled') ORDER BY id

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
