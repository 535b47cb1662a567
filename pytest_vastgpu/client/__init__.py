"""What test processes have: calls to the supervisor, which owns everything rented, and hooks that it calls back.

Standard library only, and everything that it needs is bound before the first test: a test may replace what it likes.
"""
