"""What a policy is over each kind of actions, and what the network reads of an image."""
