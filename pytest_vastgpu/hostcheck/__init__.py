"""The host check: compares the machine with its offer before any byte of a model is downloaded."""
