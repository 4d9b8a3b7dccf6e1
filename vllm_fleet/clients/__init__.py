"""Snippets for other clients than Dify, written for the deployment at hand. Pure."""
