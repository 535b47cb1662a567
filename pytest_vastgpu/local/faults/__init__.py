"""Every fault that the local market can have."""
