"""People named by a released model. NumPy, Pillow and LiteRT only."""
