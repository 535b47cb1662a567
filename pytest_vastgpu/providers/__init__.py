"""Providers, which rent out instances: the protocol, and its one implementation for Vast.ai."""
