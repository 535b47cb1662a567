"""One instance of the local market: a real process tree behind a real SSH server."""
