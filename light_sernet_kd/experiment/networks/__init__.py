"""A run's networks: what they see, the stages of their training, the weights they begin with."""
