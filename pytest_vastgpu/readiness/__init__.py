"""Readiness: what an adapter is, the adapters that come along, and the rules that say whose fault a failure is."""
