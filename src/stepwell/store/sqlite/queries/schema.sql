-- name: has_schema
-- Whether the tables were ever made.
SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'stepwell_schema'

-- name: schema_version
-- The number of the newest migration applied.
SELECT coalesce(max(version), 0) FROM stepwell_schema

-- name: record_migration
-- Says that a migration was applied.
INSERT INTO stepwell_schema (version, name, applied_at) VALUES (:number, :name, :now)
