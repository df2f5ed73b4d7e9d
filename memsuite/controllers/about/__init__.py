"""What is told about models: their sizes, and what they can express."""
