"""Tasks in which an agent walks: distractor navigation, and the T-maze of the literature."""
