"""The edge: an SMTP server on aiosmtpd that turns a client's dialogue into calls of the pipeline."""
