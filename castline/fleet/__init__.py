"""Stages on other machines, or later on this one: who runs what where. What is computed stays DVC's business."""
