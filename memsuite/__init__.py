"""memsuite."""
