"""Vast.ai's REST API as typed calls, for Vast.ai and for the local market alike."""
