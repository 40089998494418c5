"""What the files of configs/ are made of: recipes, variants for small data, own images."""
