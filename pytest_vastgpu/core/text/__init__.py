"""Text tools: make text safe to show, remove secrets, lay out tables, quote for a shell."""
