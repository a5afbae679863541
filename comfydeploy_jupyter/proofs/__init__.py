"""With what runs were made, and whether they can be made again."""
