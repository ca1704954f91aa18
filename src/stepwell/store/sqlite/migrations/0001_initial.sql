-- Instants are microseconds since 1970, values are encoded JSON. No foreign keys: their checks cost, and nothing is ever
-- deleted row by row. The journal is append-only in the order of commits, so that a commit of 256 runs touches few pages.
-- A counter has a CHECK far above what a run reaches: an edit by hand that goes beyond is refused here, so that no
-- statement has to guard its `+ 1`.
CREATE TABLE stepwell_schema (
    version INTEGER PRIMARY KEY,
    name TEXT NOT NULL,
    applied_at INTEGER NOT NULL
) STRICT;

CREATE TABLE stepwell_definitions (
    lane INTEGER PRIMARY KEY,
    queue TEXT NOT NULL,
    workflow TEXT NOT NULL,
    fingerprint TEXT NOT NULL,
    outline BLOB NOT NULL,
    UNIQUE (queue, workflow, fingerprint)
) STRICT;

-- AUTOINCREMENT: the number of a run that was deleted by hand is never used again.
CREATE TABLE stepwell_runs (
    ref INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL,
    lane INTEGER NOT NULL,
    workflow TEXT NOT NULL,
    key TEXT,
    status TEXT NOT NULL,
    position INTEGER NOT NULL,
    worker TEXT,
    token INTEGER NOT NULL CHECK (token BETWEEN 0 AND 1073741823),
    seq INTEGER NOT NULL CHECK (seq BETWEEN 0 AND 1073741823),
    messages INTEGER NOT NULL CHECK (messages BETWEEN 0 AND 1073741823),
    crashes INTEGER NOT NULL CHECK (crashes BETWEEN 0 AND 1073741823),
    due_at INTEGER,
    wake_at INTEGER,
    awaiting TEXT,
    parked_at INTEGER,
    parent_id TEXT,
    parent_node TEXT,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    finished_at INTEGER,
    -- What few runs have. A NULL is a byte of the row's header, and nothing is bound for it.
    -- Damage: why the rows are not understood, by which release and definition, and how often they were looked at.
    damaged TEXT,
    damaged_by TEXT,
    damage_count INTEGER CHECK (damage_count BETWEEN 1 AND 1073741823),
    -- Managed queues: what the queue is fair between, the place in the line, and since when it is in line.
    share TEXT,
    priority INTEGER,
    rank INTEGER,
    queued_at INTEGER,
    deadline INTEGER,
    -- How many ends of children wake a fan-out; the rows a fork took over, and from which run; the lane it began in.
    wake_messages INTEGER,
    inherited INTEGER,
    forked_from TEXT,
    began INTEGER,
    scheduled_for INTEGER,
    -- What people ask of it, and are asked.
    cancel_requested_at INTEGER,
    acknowledged_at INTEGER,
    undone_by TEXT,
    title TEXT,
    assignee TEXT,
    -- The trace context of who started it.
    trace TEXT
) STRICT;

CREATE UNIQUE INDEX stepwell_runs_id ON stepwell_runs (id);
CREATE UNIQUE INDEX stepwell_runs_key ON stepwell_runs (key, workflow) WHERE key IS NOT NULL;
CREATE INDEX stepwell_runs_due ON stepwell_runs (lane, due_at) WHERE worker IS NULL AND due_at IS NOT NULL;
CREATE INDEX stepwell_runs_suspect ON stepwell_runs (lane, crashes, due_at)
    WHERE worker IS NULL AND due_at IS NOT NULL AND crashes >= 2;
CREATE INDEX stepwell_runs_worker ON stepwell_runs (worker) WHERE worker IS NOT NULL;
CREATE INDEX stepwell_runs_parent ON stepwell_runs (parent_id, id) WHERE parent_id IS NOT NULL;
CREATE INDEX stepwell_runs_damaged ON stepwell_runs (lane, id) WHERE damaged IS NOT NULL;
CREATE INDEX stepwell_runs_status ON stepwell_runs (status, id);
CREATE INDEX stepwell_runs_workflow ON stepwell_runs (workflow, id);
CREATE INDEX stepwell_runs_workflow_status ON stepwell_runs (workflow, status, id);

-- What is due at once has a turn instead of an instant: a number below zero, in the order of writing, so that no clock
-- decides whether it is due. What waits for an instant has that instant.
CREATE TABLE stepwell_turns (
    last INTEGER NOT NULL
) STRICT;

INSERT INTO stepwell_turns (last) VALUES (-4611686018427387904);

CREATE TABLE stepwell_inputs (
    ref INTEGER PRIMARY KEY,
    value BLOB NOT NULL
) STRICT;

-- Names of nodes and ids of workers, which a journal row has as numbers. They are never changed, and outlive the workers.
CREATE TABLE stepwell_names (
    number INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE
) STRICT;

-- The narrow row: what nearly every row has alike is NULL, or a default that takes no byte. kind NULL is `step`, attempt
-- NULL is 1, status NULL is `completed`. The view stepwell_entries has all of it in words.
CREATE TABLE stepwell_journal (
    ref INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    node INTEGER NOT NULL,
    worker INTEGER NOT NULL,
    started_at INTEGER NOT NULL,
    finished_at INTEGER NOT NULL,
    value BLOB,
    item TEXT NOT NULL DEFAULT '',
    phase TEXT NOT NULL DEFAULT 'do',
    name TEXT NOT NULL DEFAULT '',
    n INTEGER NOT NULL DEFAULT 0,
    kind TEXT,
    attempt INTEGER,
    status TEXT,
    detail BLOB,
    error BLOB,
    retry_at INTEGER
) STRICT;

-- The identity of a row (I1), and how the rows of a node are found. One index: a second one, by seq, would cost 0.6 us
-- and 110 bytes of log a step, and a run's rows are sorted faster than that.
CREATE UNIQUE INDEX stepwell_journal_key ON stepwell_journal (ref, node, item, phase, name, n);
CREATE INDEX stepwell_journal_retrying ON stepwell_journal (ref, seq) WHERE status = 'retrying';
CREATE INDEX stepwell_journal_telling ON stepwell_journal (ref, seq)
    WHERE n = 0 AND (status = 'failed' OR phase = 'undo');

-- The journal in words, for people and for models of other libraries.
CREATE VIEW stepwell_entries AS
SELECT r.id AS run_id, j.seq, node.name AS node, j.item, j.phase, j.name, j.n, coalesce(j.kind, 'step') AS kind,
    coalesce(j.attempt, 1) AS attempt, coalesce(j.status, 'completed') AS status, j.value, j.detail, j.error,
    j.retry_at, j.started_at, j.finished_at, worker.name AS worker
FROM stepwell_journal AS j
JOIN stepwell_runs AS r ON r.ref = j.ref
LEFT JOIN stepwell_names AS node ON node.number = j.node
LEFT JOIN stepwell_names AS worker ON worker.number = j.worker;

CREATE TABLE stepwell_mailbox (
    ref INTEGER NOT NULL,
    n INTEGER NOT NULL,
    kind TEXT NOT NULL,
    name TEXT NOT NULL,
    value BLOB,
    error BLOB,
    key TEXT,
    -- The run whose end it is.
    sender TEXT,
    taken INTEGER NOT NULL DEFAULT 0,
    -- Of a signal: when it came, and what its sender had kept about it, which stays when the value has been used.
    delivered_at INTEGER,
    receipt BLOB,
    PRIMARY KEY (ref, n)
) STRICT, WITHOUT ROWID;

CREATE INDEX stepwell_mailbox_unread ON stepwell_mailbox (ref, kind, name, n) WHERE NOT taken;
CREATE UNIQUE INDEX stepwell_mailbox_key ON stepwell_mailbox (ref, key) WHERE key IS NOT NULL;

CREATE TABLE stepwell_workers (
    id TEXT PRIMARY KEY,
    beat_at INTEGER NOT NULL,
    started_at INTEGER NOT NULL,
    host TEXT NOT NULL,
    pid INTEGER NOT NULL,
    process TEXT NOT NULL,
    lanes TEXT NOT NULL DEFAULT '[]',
    concurrency INTEGER NOT NULL DEFAULT 0,
    lease INTEGER NOT NULL DEFAULT 0,
    declares TEXT
) STRICT;
