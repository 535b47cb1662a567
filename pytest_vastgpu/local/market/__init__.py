"""The state of the local market: offers, instances and their states, money."""
