"""Runs and versions told to MLflow, if it is chosen: the stages write down what they did, and it is delivered."""
