"""The PostgreSQL store: runs, journals and mail in tables of one schema; needs asyncpg."""
