"""Models whose state holds the last steps of the episode."""
