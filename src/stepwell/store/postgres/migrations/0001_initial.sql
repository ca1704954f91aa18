-- Instants are microseconds since 1970, values are encoded JSON. No foreign keys: their checks lock and cost, and nothing
-- is ever deleted row by row. Runs leave room in their pages, so that the update of a step touches no index.
-- A counter has a CHECK far above what a run reaches: an edit by hand that goes beyond is refused here, so that no
-- statement has to guard its `+ 1`.
CREATE TABLE stepwell.versions (
    version integer PRIMARY KEY,
    name text NOT NULL,
    applied_at bigint NOT NULL
);

CREATE TABLE stepwell.definitions (
    lane integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    queue text NOT NULL,
    workflow text NOT NULL,
    fingerprint text NOT NULL,
    outline bytea NOT NULL,
    UNIQUE (queue, workflow, fingerprint)
);

CREATE TABLE stepwell.runs (
    id uuid PRIMARY KEY,
    parent_id uuid,
    created_at bigint NOT NULL,
    updated_at bigint NOT NULL,
    finished_at bigint,
    due_at bigint,
    wake_at bigint,
    parked_at bigint,
    lane integer NOT NULL,
    position integer NOT NULL,
    token integer NOT NULL CHECK (token BETWEEN 0 AND 1073741823),
    seq integer NOT NULL CHECK (seq BETWEEN 0 AND 1073741823),
    messages integer NOT NULL CHECK (messages BETWEEN 0 AND 1073741823),
    crashes integer NOT NULL CHECK (crashes BETWEEN 0 AND 1073741823),
    workflow text NOT NULL,
    status text NOT NULL,
    key text,
    worker text,
    awaiting text,
    parent_node text,
    -- What few runs have. A NULL takes no byte.
    -- Damage: why the rows are not understood, by which release and definition, and how often they were looked at.
    damaged text,
    damaged_by text,
    damage_count integer CHECK (damage_count BETWEEN 1 AND 1073741823),
    -- Managed queues: what the queue is fair between (compared by bytes, as in SQLite), the place in the line, and since
    -- when it is in line.
    share text COLLATE "C",
    priority smallint,
    rank smallint,
    queued_at bigint,
    deadline bigint,
    -- How many ends of children wake a fan-out; the rows a fork took over, and from which run; the lane it began in.
    wake_messages integer,
    inherited integer,
    forked_from uuid,
    began integer,
    scheduled_for bigint,
    -- What people ask of it, and are asked.
    cancel_requested_at bigint,
    acknowledged_at bigint,
    undone_by uuid,
    title text,
    assignee text,
    -- The trace context of who started it.
    trace text
) WITH (fillfactor = 60, autovacuum_vacuum_scale_factor = 0.02, autovacuum_analyze_scale_factor = 0.02);

-- A plan knows no values: without this it takes any status or workflow for one that many runs have, and looks for it
-- among all runs, from the newest on.
ALTER TABLE stepwell.runs ALTER COLUMN status SET (n_distinct = -0.5), ALTER COLUMN workflow SET (n_distinct = -0.5);

CREATE UNIQUE INDEX runs_key ON stepwell.runs (key, workflow) WHERE key IS NOT NULL;
CREATE INDEX runs_due ON stepwell.runs (lane, due_at, id) WHERE worker IS NULL AND due_at IS NOT NULL;
CREATE INDEX runs_suspect ON stepwell.runs (lane, crashes, due_at, id)
    WHERE worker IS NULL AND due_at IS NOT NULL AND crashes >= 2;
CREATE INDEX runs_worker ON stepwell.runs (worker) WHERE worker IS NOT NULL;
CREATE INDEX runs_parent ON stepwell.runs (parent_id, id) WHERE parent_id IS NOT NULL;
CREATE INDEX runs_damaged ON stepwell.runs (lane, id) WHERE damaged IS NOT NULL;
CREATE INDEX runs_status ON stepwell.runs (status, id);
CREATE INDEX runs_workflow ON stepwell.runs (workflow, id);
CREATE INDEX runs_workflow_status ON stepwell.runs (workflow, status, id);

-- What is due at once has a turn instead of an instant, counted from below zero on: no clock decides whether it is due.
CREATE SEQUENCE stepwell.turns;

CREATE TABLE stepwell.inputs (
    run_id uuid PRIMARY KEY,
    value bytea NOT NULL
);

-- Names of nodes and ids of workers, which a journal row has as numbers. They are never changed, and outlive the workers.
CREATE TABLE stepwell.names (
    number integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name text NOT NULL UNIQUE
);

-- The narrow row: what nearly every row has alike is NULL, or a short default. kind NULL is `step`, attempt NULL is 1,
-- status NULL is `completed`. The view stepwell.entries has all of it in words.
CREATE TABLE stepwell.journal (
    run_id uuid NOT NULL,
    started_at bigint NOT NULL,
    finished_at bigint NOT NULL,
    seq integer NOT NULL,
    node integer NOT NULL,
    worker integer NOT NULL,
    n integer NOT NULL DEFAULT 0,
    item text NOT NULL DEFAULT '',
    phase text NOT NULL DEFAULT 'do',
    name text NOT NULL DEFAULT '',
    value bytea,
    kind text,
    attempt integer,
    status text,
    retry_at bigint,
    detail bytea,
    error bytea
);

-- The identity of a row (I1), and how the rows of a node are found. One index: a second one, by seq, would cost 1 us and
-- 90 bytes of log a step, and a run's rows are sorted faster than that.
CREATE UNIQUE INDEX journal_key ON stepwell.journal (run_id, node, item, phase, name, n);
CREATE INDEX journal_retrying ON stepwell.journal (run_id, seq) WHERE status = 'retrying';
CREATE INDEX journal_telling ON stepwell.journal (run_id, seq)
    WHERE n = 0 AND (status = 'failed' OR phase = 'undo');

-- The journal in words, for people and for models of other libraries.
CREATE VIEW stepwell.entries AS
SELECT j.run_id, j.seq, node.name AS node, j.item, j.phase, j.name, j.n, coalesce(j.kind, 'step') AS kind,
    coalesce(j.attempt, 1) AS attempt, coalesce(j.status, 'completed') AS status, j.value, j.detail, j.error,
    j.retry_at, j.started_at, j.finished_at, worker.name AS worker
FROM stepwell.journal AS j
LEFT JOIN stepwell.names AS node ON node.number = j.node
LEFT JOIN stepwell.names AS worker ON worker.number = j.worker;

CREATE TABLE stepwell.mailbox (
    run_id uuid NOT NULL,
    n integer NOT NULL,
    kind text NOT NULL,
    name text NOT NULL,
    value bytea,
    error bytea,
    key text,
    -- The run whose end it is.
    sender uuid,
    taken boolean NOT NULL DEFAULT false,
    -- Of a signal: when it came, and what its sender had kept about it, which stays when the value has been used.
    delivered_at bigint,
    receipt bytea,
    PRIMARY KEY (run_id, n)
);

CREATE INDEX mailbox_unread ON stepwell.mailbox (run_id, kind, name, n) WHERE NOT taken;
CREATE UNIQUE INDEX mailbox_key ON stepwell.mailbox (run_id, key) WHERE key IS NOT NULL;

CREATE TABLE stepwell.workers (
    id text PRIMARY KEY,
    beat_at bigint NOT NULL,
    started_at bigint NOT NULL,
    host text NOT NULL,
    pid integer NOT NULL,
    lanes integer[] NOT NULL DEFAULT '{}',
    concurrency integer NOT NULL DEFAULT 0,
    lease bigint NOT NULL DEFAULT 0,
    declares text
);
