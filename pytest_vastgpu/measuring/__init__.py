"""Measures a server, or code on the GPU: what load it gets, what the numbers are, and whether they got worse.

``load`` says what is asked, ``driver`` asks it on the instance, and ``seen`` refuses what would mean nothing.
``measurement`` turns the rest into numbers (``requests``, ``latencies``, ``gpu``) with ``intervals``; ``comparison``
decides what two sides differ in. All of it is pure but the driver; ``plugin/measuring`` acts.
"""
