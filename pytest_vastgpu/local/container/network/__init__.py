"""The network of an instance: published ports, relays between streams, and its HTTP proxy."""
