"""The PostgreSQL store: runs, journals and mailboxes in tables of one schema; needs asyncpg."""
