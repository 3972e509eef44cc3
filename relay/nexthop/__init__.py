"""The next hop: one connection, the pool of connections, and the sessions and transactions over them.

Read `hop.py` first. aiosmtplib is used through its protocol object, in `connection.py` and `wire.py` only.
"""
