"""Decides what two sides of a comparison differ in, and how sure that is. Pure."""
