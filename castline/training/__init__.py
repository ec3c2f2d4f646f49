"""Heads, fine-tuning, and what a version remembers to go on from."""
