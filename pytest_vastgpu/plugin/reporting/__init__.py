"""What pytest's process notes of tests for reports, and what it shows of a run outside its terminal."""
