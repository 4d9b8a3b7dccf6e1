"""What speaks against a server: its declaration compared with its model, and with its devices. Pure."""
