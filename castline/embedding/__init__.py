"""Base models, and the features that they make of faces."""
