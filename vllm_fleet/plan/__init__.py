"""The serving plan: declared model servers and host facts in, one plan or every reason against it out.

Pure Python. Nothing here imports Ansible, opens a connection or touches a host.
"""
