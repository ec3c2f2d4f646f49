"""Parts of a page that Streamlit does not have, each with its script and style beside it."""
