"""The pytest plugin: hooks, fixtures, options, markers and reports.

:mod:`~pytest_vastgpu.plugin.hooks` is the module that pytest loads.
"""
