"""Whose fault a failure is: from what a host, a market or a server printed to a verdict.

:mod:`~pytest_vastgpu.diagnosis.verdicts` is where to begin; what is known of causes stands in ``rules/``.
"""
