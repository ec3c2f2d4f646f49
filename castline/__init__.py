"""From photos of a cast of people to a small, versioned model that names them.

The packages follow the data: photos, faces, curation, training, evaluation, export; `runtime` uses what came out.
"""

__version__ = "0.1.0"
