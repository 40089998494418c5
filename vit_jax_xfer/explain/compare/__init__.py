"""The command that measures methods of attribution beside each other."""
