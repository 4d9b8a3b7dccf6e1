"""Judge what the proof of a host's GPUs measured: findings with codes, and a table of what was seen. Pure."""
