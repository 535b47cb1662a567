"""Which instances a run has, which tests use or will need them, and what follows from that."""
