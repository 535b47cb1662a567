"""Fixtures that measure and compare, what of it is kept, and the report of it. Loaded only by runs that measure."""
