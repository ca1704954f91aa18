"""What the database itself can write: the rows that a case cannot do without, and nothing else.

A step is one journal row inserted and one run's row updated. No ids to make, no fences, no codec, no handler, no second
index; as durable as stepwell: WAL and synchronous=FULL on SQLite, fsync and synchronous_commit on PostgreSQL.
"""
