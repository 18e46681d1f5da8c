"""What each command does, from parsed arguments to printed figures."""
