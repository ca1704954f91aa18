-- Plans are made once a connection, mostly while the tables are empty, and kept when they have grown. So a question
-- about another row is a scalar sub-select, rows that were found by one scan are met again by `= ANY(ARRAY(...))`, and
-- some joins are LATERAL with a LIMIT or an OFFSET: these are only ever answered row by row, through an index. For
-- EXISTS, IN or a plain join the whole table may be hashed: with many runs due, each claim would read all there are.

-- name: claim
-- Leases due runs of these lanes, suspects apart: what is due at once and timers that are over, half of the room for
-- each, and more of the one where there are not enough of the other; up to the bytes, one at least. Always a row: whether
-- the worker lives, the instant, whether the bytes ended it, and when nothing was due, the next timer. Rows that others
-- hold are passed over, to be looked for again in 50 ms, and what the runs wait for stays.
WITH clock AS MATERIALIZED (SELECT {now} AS now),
mine AS MATERIALIZED (SELECT id FROM stepwell.workers WHERE id = $worker FOR KEY SHARE),
suspects AS MATERIALIZED (
    SELECT due.id
    FROM mine, unnest($lanes::integer[]) WITH ORDINALITY AS wanted (lane, turn), LATERAL (
        SELECT r.id FROM stepwell.runs AS r
        WHERE r.lane = wanted.lane AND r.worker IS NULL AND r.due_at IS NOT NULL AND r.crashes >= 2 AND r.crashes = 2
            AND r.due_at <= (SELECT now FROM clock)
        ORDER BY r.due_at, r.id LIMIT $suspects::integer FOR NO KEY UPDATE SKIP LOCKED
    ) AS due
    LIMIT $suspects::integer
),
worst AS MATERIALIZED (
    SELECT due.id
    FROM mine, unnest($lanes::integer[]) WITH ORDINALITY AS wanted (lane, turn), LATERAL (
        SELECT r.id FROM stepwell.runs AS r
        WHERE r.lane = wanted.lane AND r.worker IS NULL AND r.due_at IS NOT NULL AND r.crashes >= 2 AND r.crashes > 2
            AND r.due_at <= (SELECT now FROM clock)
        ORDER BY r.crashes, r.due_at, r.id
        LIMIT (SELECT CASE WHEN $worst::boolean AND $suspects::integer > 0 AND count(*) = 0 THEN 1 ELSE 0 END FROM suspects)
        FOR NO KEY UPDATE SKIP LOCKED
    ) AS due
    LIMIT (SELECT CASE WHEN $worst::boolean AND $suspects::integer > 0 AND count(*) = 0 THEN 1 ELSE 0 END FROM suspects)
),
room AS MATERIALIZED (
    SELECT $limit::integer - (SELECT count(*) FROM suspects) - (SELECT count(*) FROM worst) AS n
),
timers AS MATERIALIZED (
    SELECT due.id
    FROM mine, unnest($lanes::integer[]) WITH ORDINALITY AS wanted (lane, turn), LATERAL (
        SELECT r.id FROM stepwell.runs AS r
        WHERE r.lane = wanted.lane AND r.worker IS NULL AND r.due_at IS NOT NULL AND r.crashes < 2
            AND r.due_at > 0 AND r.due_at <= (SELECT now FROM clock)
        ORDER BY r.due_at, r.id LIMIT (SELECT (n + $timers_first::boolean::integer) / 2 FROM room) FOR NO KEY UPDATE SKIP LOCKED
    ) AS due
    LIMIT (SELECT (n + $timers_first::boolean::integer) / 2 FROM room)
),
at_once AS MATERIALIZED (
    SELECT due.id
    FROM mine, unnest($lanes::integer[]) WITH ORDINALITY AS wanted (lane, turn), LATERAL (
        SELECT r.id FROM stepwell.runs AS r
        WHERE r.lane = wanted.lane AND r.worker IS NULL AND r.due_at IS NOT NULL AND r.crashes < 2
            AND r.due_at <= 0
        ORDER BY r.due_at, r.id LIMIT (SELECT n - (SELECT count(*) FROM timers) FROM room) FOR NO KEY UPDATE SKIP LOCKED
    ) AS due
    LIMIT (SELECT n - (SELECT count(*) FROM timers) FROM room)
),
more_timers AS MATERIALIZED (
    SELECT due.id
    FROM mine, unnest($lanes::integer[]) WITH ORDINALITY AS wanted (lane, turn), LATERAL (
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
    UNION ALL SELECT id, CASE WHEN $timers_first::boolean THEN 1 ELSE 3 END, row_number() OVER () FROM timers
    UNION ALL SELECT id, 2, row_number() OVER () FROM at_once
    UNION ALL SELECT id, 3, row_number() OVER () + (SELECT count(*) FROM timers) FROM more_timers
),
sized AS MATERIALIZED (
    SELECT f.id, row_number() OVER w AS place, sum(coalesce((
        SELECT octet_length(i.value) FROM stepwell.inputs AS i WHERE i.run_id = f.id
    ), 0)) OVER w AS bytes
    FROM found AS f WINDOW w AS (ORDER BY f.place, f.kind, f.id ROWS UNBOUNDED PRECEDING)
),
chosen AS MATERIALIZED (SELECT id FROM sized WHERE place = 1 OR bytes <= $most_bytes::bigint),
leased AS (
    UPDATE stepwell.runs AS r
    SET worker = $worker, token = r.token + 1, updated_at = (SELECT now FROM clock),
        status = CASE r.status WHEN 'pending' THEN 'running' ELSE r.status END
    WHERE r.id = ANY(ARRAY(SELECT id FROM chosen))
    RETURNING r.id, r.due_at, {r.lease}
),
answer AS MATERIALIZED (
    SELECT EXISTS (SELECT 1 FROM mine) AS alive, clock.now,
        (SELECT count(*) FROM found) > (SELECT count(*) FROM chosen) AS cut,
        CASE WHEN NOT EXISTS (SELECT 1 FROM chosen) THEN (
            SELECT min(next.due_at) FROM unnest($lanes::integer[]) AS wanted (lane), LATERAL (
                SELECT CASE WHEN r.due_at > (SELECT now FROM clock) THEN r.due_at
                    ELSE (SELECT now FROM clock) + 50000 END AS due_at
                FROM stepwell.runs AS r
                WHERE r.lane = wanted.lane AND r.worker IS NULL AND r.due_at IS NOT NULL
                    AND (r.due_at > (SELECT now FROM clock) OR r.crashes < 2
                        OR $suspects::integer > 0 AND (r.crashes = 2 OR $worst::boolean))
                ORDER BY r.due_at LIMIT 1
            ) AS next
        ) END AS next_due
    FROM clock
)
SELECT a.alive, a.now, a.next_due, a.cut, l.id::text, {l.lease},
    (SELECT i.value FROM stepwell.inputs AS i WHERE i.run_id = l.id) AS value
FROM answer AS a LEFT JOIN leased AS l ON true
ORDER BY l.due_at, l.id

-- name: journal_of
-- The journals of runs, in order.
SELECT j.run_id::text, {journal.entry}
FROM stepwell.journal AS j WHERE j.run_id = ANY($ids::uuid[]) ORDER BY j.run_id, j.seq

-- name: journal_sizes
-- The bytes of runs' journals, in the order asked; no large value is read for it.
SELECT coalesce((
    SELECT sum(coalesce(octet_length(j.value), 0) + coalesce(octet_length(j.detail), 0)
        + coalesce(octet_length(j.error), 0))
    FROM stepwell.journal AS j WHERE j.run_id = wanted.id
), 0)::bigint
FROM unnest($ids::uuid[]) WITH ORDINALITY AS wanted (id, at) ORDER BY wanted.at

-- name: journal_parts
-- Rows of some nodes of runs, in order: of some all, of the others those from the last outcome on, found by their
-- items, which are named in order: the last outcome itself, and the attempts after it.
SELECT wanted.run_id::text, part.*
FROM {wanted(run_id uuid, node text, is_last boolean)}, LATERAL (
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

-- name: message_counts
-- How many messages the runs ever got; asked before the mailboxes are read.
SELECT id::text, messages FROM stepwell.runs WHERE id = ANY($ids::uuid[])

-- name: find_messages
-- The first unread message of a name in each of these mailboxes, behind a number.
SELECT wanted.run_id::text, first.n, first.kind, first.name, first.value, first.error, first.sender::text
FROM {wanted(run_id uuid, kind text, name text, after integer)}, LATERAL (
    SELECT m.n, m.kind, m.name, m.value, m.error, m.sender FROM stepwell.mailbox AS m
    WHERE m.run_id = wanted.run_id AND m.kind = wanted.kind AND m.name = wanted.name AND NOT m.taken
        AND m.n > wanted.after
    ORDER BY m.n LIMIT 1
) AS first
