"""Panels for the notebook, made of ipywidgets."""
