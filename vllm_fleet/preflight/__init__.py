"""What would stop a run later, found before anything is changed: facts of a host in, findings out.

Pure Python. Nothing here imports Ansible, opens a connection or touches a host; only the command line runs a playbook.
"""
