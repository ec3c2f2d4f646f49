"""The app: a page to try a model on, to enrol and correct people, and to see what the model is worth. In Streamlit.

What needs no page is beside it, without Streamlit: who is seen (`seen`), by which processes (`work`), of which model
(`models`), and what becomes of it (`enrol`, `corrections`, `deliver`).
"""
