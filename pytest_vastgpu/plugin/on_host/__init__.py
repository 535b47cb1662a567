"""Runs the selected tests on rented hosts, in xdist's workers there (``--vast-hosts``).

Loaded only by a run that asks for hosts. :mod:`.session` is the run, from renting to the last report.
"""
