"""The life of one instance, from the intention to rent it until it is gone."""
