"""OpenPGP: the judge that says which certificate may be used, and the engines that encrypt."""
