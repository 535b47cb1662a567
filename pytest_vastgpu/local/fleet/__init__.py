"""The machines of a local market, and the file that describes them."""
