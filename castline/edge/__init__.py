"""A released model at the edge: packed for devices, brought to them, and run there with NumPy, Pillow and LiteRT."""
