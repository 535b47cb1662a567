"""The local market: a server of the Vast API on loopback that rents out this machine and simulated ones.

``server`` runs it, ``embed`` and ``fixtures`` start it for tests. ``api`` answers calls with what ``market`` decides,
which knows its machines from ``fleet`` and starts instances with ``container``; ``faults`` changes any of that.
"""
