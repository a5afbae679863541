"""Pure functions on workflow graphs: no I/O, no state, no Jupyter."""
