"""The edge: an SMTP submission server that turns a client's dialogue into calls of the pipeline.

It stands on aiosmtpd 1.4 and keeps two things of it: the connection plumbing (`SMTP` is a
`StreamReaderProtocol`, whose task it starts for each connection) and the way it puts TLS under a connection
that is already open, with the buffered plaintext thrown away (RFC 3207 §4.2). Implicit TLS goes the same way,
before the greeting, so that there is one path and whatever may come before TLS can be read first.

Everything between the lines is ours, because aiosmtpd ends lines at bare LF, reads DATA line by line into the
log, cancels the handler when the client disconnects, answers exceptions with 500 and their text, and compares
AUTH mechanisms with their letter case:

    listener   opens the ports, knows the sessions, shuts them down
    session    one connection: TLS, command loop, replies, what ends it
    stream     what the client sends, as lines and blocks, with a time limit each
    dialogue   the commands and the state between them
    auth       PLAIN and LOGIN          data        the message, block by block
    parameters arguments of MAIL, RCPT  limits      connections and failed logins
    replies    every positive reply     settings    numbers and choices
    tls        certificates             line        what the edge calls
    users      the file of users        parts       what the sessions work with
"""
