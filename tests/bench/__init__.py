"""The benchmark behind `make bench`. pytest does not collect it."""
