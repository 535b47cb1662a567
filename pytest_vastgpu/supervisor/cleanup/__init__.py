"""Destroying, verified; and everything that destroys what a run has left behind."""
