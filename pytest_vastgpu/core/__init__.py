"""What every other part may use: secrets and how they stay hidden, and text that comes from others."""
