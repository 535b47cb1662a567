"""Measures a server, or code on the GPU: what load it gets, what the numbers are, and whether they got worse.

``load`` says what is asked, ``on_instance`` asks it there, and ``seen`` refuses what means nothing. ``measurement``
turns the rest into numbers (``requests``, ``latencies``, ``gpu``) with ``intervals``; ``comparing`` decides what two
sides differ in, ``baselines`` what was kept says of it. All of it is pure but the driver; ``plugin/measuring`` acts.
"""
