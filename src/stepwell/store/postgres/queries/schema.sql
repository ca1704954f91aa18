-- name: has_schema
-- Whether the tables were ever made; asked of the catalog's rows, since its cache may not have heard of another's.
SELECT EXISTS (
    SELECT 1 FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
    WHERE n.nspname = $schema AND c.relname = 'versions'
)

-- name: schema_version
-- The number of the newest migration applied.
SELECT coalesce(max(version), 0) FROM stepwell.versions

-- name: record_migration
-- Says that a migration was applied.
INSERT INTO stepwell.versions (version, name, applied_at) VALUES ($number, $name, {now})
