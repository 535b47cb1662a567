"""The HTTP API of the local market, endpoint by endpoint, as Vast.ai documents it."""
