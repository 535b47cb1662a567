"""The supervisor, the process that owns everything rented: its server for test processes, the run, and its end."""
