"""The second set of eight tasks: rewriting, tracking, binding many, counting, composition and credit."""
