"""Analysis of finished runs; importing it never imports the training code."""
