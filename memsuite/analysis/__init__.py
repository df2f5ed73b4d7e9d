"""Looking at finished runs; never imports what trains them at import time."""
