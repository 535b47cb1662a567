"""The local market: a server that speaks the Vast API on loopback and rents out this very machine."""
