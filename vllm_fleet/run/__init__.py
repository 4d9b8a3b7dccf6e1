"""A run of Ansible, watched: progress while it goes on, and at its end what happened in plain words."""
