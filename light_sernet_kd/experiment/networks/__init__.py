"""A run's networks: what they see, the stages of their training, and when it ends."""
