"""An SMTP relay that encrypts every message end to end before it leaves."""

__version__ = "0.1.0"
