"""The app's script, in a folder of its own: Streamlit takes a folder `pages` beside it for scripts, and puts the
folder it is in first on the path that modules are looked for on.
"""
