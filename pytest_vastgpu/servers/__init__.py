"""The adapters: each holds everything this package must know about one kind of server.

:mod:`~pytest_vastgpu.servers.base` declares what an adapter is.
"""
