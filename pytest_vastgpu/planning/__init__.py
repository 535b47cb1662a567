"""What a run would rent, in which order and for how much: said before it rents."""
