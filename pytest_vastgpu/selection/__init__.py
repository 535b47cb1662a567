"""The choice of an offer: which offers a strictness level admits, and in which order they are tried.

Everything here is pure except the search itself.
"""
