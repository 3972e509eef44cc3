"""The next hop: aiosmtplib transactions, connection reuse and TLS."""
