"""The pytest plugin: hooks, fixtures, options, markers and reports. Only this folder imports pytest.

:mod:`~pytest_vastgpu.plugin.hooks` is the module that pytest loads.
"""
