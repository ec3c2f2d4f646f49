"""Faces that somebody should look at: a contact sheet, Label Studio tasks, and a file to write decisions into."""
