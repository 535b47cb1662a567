"""What every part may use: time limits, values as JSON, messages, child processes, secrets, text of others.

Standard library only.
"""
