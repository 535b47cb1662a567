"""The local market: a server of the Vast API on loopback that rents out this machine and simulated ones."""
