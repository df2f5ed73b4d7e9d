"""Models whose state is a vector, or a few vectors."""
