"""The machines that a local market rents out, and the file that describes them."""
