"""Which offer is rented: what a strictness level admits, and in which order.

All of it is pure but the search itself.
"""
