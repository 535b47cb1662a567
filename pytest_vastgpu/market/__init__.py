"""The market: the Vast REST API as typed calls, its throttle, and the policy that picks an offer."""
