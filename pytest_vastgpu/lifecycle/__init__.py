"""The life of an instance: who rents, who waits, who destroys, and the ledger that outlives a crash."""
