"""Asks deployed model servers real questions and judges the answers. Knows endpoints, and nothing of Ansible."""
