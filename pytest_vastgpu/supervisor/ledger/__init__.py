"""The run's record on disk of everything rented: written before it is rented, kept until it is verified gone."""
