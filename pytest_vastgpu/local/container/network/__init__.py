"""How data goes in and out of an instance: published ports, relays between streams, and its HTTP proxy."""
