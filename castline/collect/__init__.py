"""Collecting a cast: whom to look for, and openly licensed photos of them with a record of where each comes from."""
