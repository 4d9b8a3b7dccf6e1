"""Servers that are wrong in exactly one way, and a healthy one: what the verification is held against."""
