-- name: find_lane
-- The numbers of lanes in the order asked, NULL for one that is not stored.
SELECT d.lane
FROM {wanted(queue text, workflow text, fingerprint text)+at}
LEFT JOIN stepwell.definitions AS d USING (queue, workflow, fingerprint)
ORDER BY wanted.at

-- name: add_lane
-- Stores lanes with the outlines of their workflows; one that another process stores at the same moment stays.
INSERT INTO stepwell.definitions (queue, workflow, fingerprint, outline)
SELECT * FROM {new(queue text, workflow text, fingerprint text, outline bytea)} ORDER BY 1, 2, 3
ON CONFLICT DO NOTHING

-- name: find_key
-- The first runs of these workflows and keys, with their inputs where they are others than the runs given; asked after
-- add_runs, by a snapshot of its own. The workflow is compared so that no index on it is taken in place of the key's.
SELECT wanted.id::text, first.id::text, first.status,
    CASE WHEN first.id <> wanted.id THEN (SELECT i.value FROM stepwell.inputs AS i WHERE i.run_id = first.id) END
FROM {wanted(workflow text, key text, id uuid)}, LATERAL (
    SELECT r.id, r.status FROM stepwell.runs AS r WHERE r.key = wanted.key AND r.workflow || '' = wanted.workflow LIMIT 1
) AS first

-- name: add_runs
-- Writes new runs with their inputs, in the order given, which is that of their keys; what was written before stays.
-- Gives how many lanes are not stored for their workflows, and writes nothing then: no worker could read such runs.
WITH clock AS MATERIALIZED (SELECT {now} AS now),
n AS MATERIALIZED (SELECT * FROM {n({new_run.given})+at}),
unknown AS MATERIALIZED (
    SELECT count(*) AS lanes FROM (SELECT DISTINCT lane, workflow FROM n) AS named
    WHERE (SELECT d.workflow FROM stepwell.definitions AS d WHERE d.lane = named.lane) IS DISTINCT FROM named.workflow
),
made AS (
    INSERT INTO stepwell.runs ({new_run.columns})
    SELECT {new_run.values} FROM clock, n WHERE (SELECT lanes FROM unknown) = 0 ORDER BY n.at
    ON CONFLICT DO NOTHING
    RETURNING id
),
written AS (
    INSERT INTO stepwell.inputs (run_id, value) SELECT n.id, n.value FROM n JOIN made USING (id)
)
SELECT lanes FROM unknown
