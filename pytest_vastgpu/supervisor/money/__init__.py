"""The budget of a run, the prices of its instances, and the cost of each test."""
