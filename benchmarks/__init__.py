"""How fast the running of workflows is; one script a claim, each with its reference."""
