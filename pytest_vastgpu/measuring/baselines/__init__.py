"""Stored baselines: what is compared with what, their files, and the sentences on them."""
