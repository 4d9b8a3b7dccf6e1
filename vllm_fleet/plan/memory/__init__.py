"""How much memory a model server takes on each of its devices, and with what certainty. Pure."""
