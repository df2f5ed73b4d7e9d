"""How Gymnasium's environments are made, run and read: their spaces, what they return, and processes of their own."""
