"""What the local market decides: offers, rentals, money, and how an instance passes through its states."""
