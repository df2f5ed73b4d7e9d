"""Models whose state is a matrix."""
