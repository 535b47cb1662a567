"""Destroys instances and verifies that they are gone; cleans up what dead runs have left behind."""
