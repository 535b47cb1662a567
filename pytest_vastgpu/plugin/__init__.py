"""Everything that imports pytest: hooks, fixtures, options, markers, reports.

:mod:`~pytest_vastgpu.plugin.hooks` is the plugin.
"""
