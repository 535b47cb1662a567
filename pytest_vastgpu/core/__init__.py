"""Shared basics: clock and time limits, values as JSON, messages, child processes, secrets, safe text.

They use only the standard library.
"""
