"""What a checkpoint holds of a run: written, held against the run, and taken up again."""
