"""Fuzzing: octets that nobody chose, given to what reads the answers of strangers and the mail of clients.

`python -m tests.fuzz` names the targets. A target is a function from bytes to None that raises when something
is wrong; `targets.py` has the table to add one to. The tests here run every target for a moment with a fixed
seed, and the hostile certificates of `hostile.py`, which were made on purpose.
"""
