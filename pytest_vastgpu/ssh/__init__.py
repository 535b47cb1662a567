"""SSH: keys, the one connection kept to an instance, probes over it, and the tunnel to the server."""
