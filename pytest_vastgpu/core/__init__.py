"""What every part may use: time limits, values as JSON, messages, child processes. Standard library only."""
