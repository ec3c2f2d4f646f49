"""The pages, each a function that is given what it needs."""
