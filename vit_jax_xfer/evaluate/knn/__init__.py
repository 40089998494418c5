"""Classes of images by their nearest neighbours: votes on arrays, features, and the command."""
