"""The event log and those who read it: progress lines, the table at the end, files."""
