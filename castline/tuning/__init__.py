"""Settings looked for by Optuna: the search-space file, and the study whose trials are DVC experiments."""
