"""Signs and encrypts in one step, with a secret key that stays where the administrator has put it.

`registry` finds the key that a rule names; `keyfile` holds keys of a file, `gnupg` asks the agent of a GnuPG
home; `assessment` says which (sub)key may sign, and until when. `library` and `worker` are the calls into
pysequoia and the process around them, `process` runs programs, `minimal` cuts the certificate for Autocrypt.
"""
