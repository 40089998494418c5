"""Ways to learn from one teacher, beside each other on the same images."""
