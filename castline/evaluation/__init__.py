"""How good a model is, and for whom: measures, curves, the report."""
