"""Tasks in which the agent walks through a maze of the literature."""
