"""How a student learns: losses, and the Keras model that trains on them."""
