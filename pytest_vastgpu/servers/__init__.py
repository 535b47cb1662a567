"""Adapters: everything this package must know about one kind of server.

:mod:`~pytest_vastgpu.servers.base` declares them.
"""
