"""Decides whose fault a failure is: turns the output of a host, a market or a server into a verdict.

Start reading at :mod:`~pytest_vastgpu.diagnosis.verdicts`; the folder ``rules/`` holds the known causes.
"""
