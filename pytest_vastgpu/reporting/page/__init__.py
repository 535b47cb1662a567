"""The page of a run: one self-contained HTML file, which needs neither a network nor a script to be read."""
