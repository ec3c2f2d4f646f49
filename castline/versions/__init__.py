"""Versions of the model: released, given a stage, listed, compared, put back."""
