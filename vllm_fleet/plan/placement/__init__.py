"""Which server runs on which devices, and which share of each it may take. Pure."""
