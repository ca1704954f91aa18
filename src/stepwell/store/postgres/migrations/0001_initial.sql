-- Instants are microseconds since 1970, values are encoded JSON. No foreign keys: their checks lock and cost, and nothing
-- is ever deleted row by row. Runs leave room in their pages, so that the update of a step touches no index.
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
    token integer NOT NULL,
    seq integer NOT NULL,
    mail integer NOT NULL,
    crashes integer NOT NULL,
    workflow text NOT NULL,
    status text NOT NULL,
    key text,
    worker text,
    awaiting text,
    parent_node text
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
CREATE INDEX runs_status ON stepwell.runs (status, id);
CREATE INDEX runs_workflow ON stepwell.runs (workflow, id);
CREATE INDEX runs_workflow_status ON stepwell.runs (workflow, status, id);

-- What is due at once has a turn instead of an instant, counted from below zero on: no clock decides whether it is due.
CREATE SEQUENCE stepwell.turns;

CREATE TABLE stepwell.inputs (
    run_id uuid PRIMARY KEY,
    value bytea NOT NULL
);

CREATE TABLE stepwell.journal (
    run_id uuid NOT NULL,
    started_at bigint NOT NULL,
    finished_at bigint NOT NULL,
    retry_at bigint,
    seq integer NOT NULL,
    n integer NOT NULL,
    attempt integer NOT NULL,
    node text NOT NULL,
    item text NOT NULL,
    phase text NOT NULL,
    kind text NOT NULL,
    status text NOT NULL,
    worker text NOT NULL,
    value bytea,
    detail bytea,
    error bytea,
    PRIMARY KEY (run_id, node, item, phase, n)
);

CREATE INDEX journal_retrying ON stepwell.journal (run_id, seq) WHERE status = 'retrying';
CREATE INDEX journal_telling ON stepwell.journal (run_id, seq)
    WHERE n = 0 AND (status = 'failed' OR phase = 'undo');

CREATE TABLE stepwell.mailbox (
    run_id uuid NOT NULL,
    n integer NOT NULL,
    kind text NOT NULL,
    name text NOT NULL,
    value bytea,
    error bytea,
    key text,
    taken boolean NOT NULL DEFAULT false,
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
    lease bigint NOT NULL DEFAULT 0
);
