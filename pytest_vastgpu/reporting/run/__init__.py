"""What a run has done, read from the files in its directory."""
