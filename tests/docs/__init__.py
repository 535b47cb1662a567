"""Tests of the documents: each block of code is run or checked, and each link leads somewhere.

A block is checked by its language: see ``LANGUAGES`` in :mod:`tests.docs.test_blocks`.
"""
