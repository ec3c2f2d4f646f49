"""Where the faces are in a photo, and each of them upright at one size. NumPy, Pillow and LiteRT only."""
