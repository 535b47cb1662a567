"""The host check: what was sold against what is there, before a byte of a model is pulled."""
