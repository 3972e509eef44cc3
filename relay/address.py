"""Parses the addresses of SMTP commands (RFC 5321 §4.1.2) and of header fields into `Address`.

Both forms of a domain, U-label and A-label, become one (RFC 5891); quoted local parts are unquoted; source
routes and routing characters in the local part are refused, because `%`, `!` and a second `@` make another
server deliver somewhere else than the rule that was matched.
"""
