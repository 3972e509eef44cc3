"""What the relay remembers: answers of key sources, pins, learned keys. In SQLite or PostgreSQL.

Read `database.py` first. SQLAlchemy and the two drivers stay in this room; every failure of theirs leaves it
as StoreUnavailable, and no failure looks like an empty answer.
"""
