"""Forgetting a person: the register of who is forgotten, what is taken out, and what still holds them elsewhere."""
