"""What a model is, read from its config.json and the headers of its weights, without loading it. Pure."""
