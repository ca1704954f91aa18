-- Instants are microseconds since 1970, values are encoded JSON. No foreign keys: their checks cost, and nothing is ever
-- deleted row by row. The journal is append-only in the order of commits, so that a commit of 256 runs touches few pages.
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
    token INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    mail INTEGER NOT NULL,
    crashes INTEGER NOT NULL,
    due_at INTEGER,
    wake_at INTEGER,
    awaiting TEXT,
    parked_at INTEGER,
    parent_id TEXT,
    parent_node TEXT,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    finished_at INTEGER
) STRICT;

CREATE UNIQUE INDEX stepwell_runs_id ON stepwell_runs (id);
CREATE UNIQUE INDEX stepwell_runs_key ON stepwell_runs (key, workflow) WHERE key IS NOT NULL;
CREATE INDEX stepwell_runs_due ON stepwell_runs (lane, due_at) WHERE worker IS NULL AND due_at IS NOT NULL;
CREATE INDEX stepwell_runs_suspect ON stepwell_runs (lane, crashes, due_at)
    WHERE worker IS NULL AND due_at IS NOT NULL AND crashes >= 2;
CREATE INDEX stepwell_runs_worker ON stepwell_runs (worker) WHERE worker IS NOT NULL;
CREATE INDEX stepwell_runs_parent ON stepwell_runs (parent_id, id) WHERE parent_id IS NOT NULL;
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

CREATE TABLE stepwell_journal (
    ref INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    node TEXT NOT NULL,
    item TEXT NOT NULL,
    phase TEXT NOT NULL,
    n INTEGER NOT NULL,
    kind TEXT NOT NULL,
    attempt INTEGER NOT NULL,
    status TEXT NOT NULL,
    value BLOB,
    detail BLOB,
    error BLOB,
    retry_at INTEGER,
    started_at INTEGER NOT NULL,
    finished_at INTEGER NOT NULL,
    worker TEXT NOT NULL
) STRICT;

CREATE UNIQUE INDEX stepwell_journal_key ON stepwell_journal (ref, node, item, phase, n);
CREATE INDEX stepwell_journal_retrying ON stepwell_journal (ref, seq) WHERE status = 'retrying';
CREATE INDEX stepwell_journal_telling ON stepwell_journal (ref, seq)
    WHERE n = 0 AND (status = 'failed' OR phase = 'undo');

CREATE TABLE stepwell_mailbox (
    ref INTEGER NOT NULL,
    n INTEGER NOT NULL,
    kind TEXT NOT NULL,
    name TEXT NOT NULL,
    value BLOB,
    error BLOB,
    key TEXT,
    taken INTEGER NOT NULL DEFAULT 0,
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
    lease INTEGER NOT NULL DEFAULT 0
) STRICT;
