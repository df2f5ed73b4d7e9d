"""What starts a run: its parser, its processes and trainer, its folder, and what is said when it ends early."""
