"""Reports on a run, made from the event log: the table at the end, costs, files with evidence."""
