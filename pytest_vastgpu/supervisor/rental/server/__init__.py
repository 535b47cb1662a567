"""The server that runs on an instance: how it is started, and how it is watched."""
