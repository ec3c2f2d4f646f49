"""Base models, features, heads and how they are trained."""
