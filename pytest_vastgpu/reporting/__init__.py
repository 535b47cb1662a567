"""Reports on a run, for people and programs: the table at the end, costs, files with evidence."""
