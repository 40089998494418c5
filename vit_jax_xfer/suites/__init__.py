"""The published sets that classifiers are measured on, opened as their authors laid them out."""
