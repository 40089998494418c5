"""What people give is checked here: what is wrong is told in one line, by the argument's name."""
