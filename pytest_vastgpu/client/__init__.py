"""The test process's side of the connection to the supervisor, the process that owns everything rented.

It uses the standard library only, and binds every name before the first test, because a test may replace any function.
"""
