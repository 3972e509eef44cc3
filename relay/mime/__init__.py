"""Messages as bytes: slicing, checking, wrapping. Pure: no I/O, no clock, no crypto, no serialiser."""
