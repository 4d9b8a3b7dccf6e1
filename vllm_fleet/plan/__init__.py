"""The serving plan: declared model servers, host and model facts in, one plan or every reason against it out.

`declaration` reads what an inventory says, `host` and `models` what there is; `checks` compare them, `memory`
estimates, `placement` decides; `solve` and `remedies` bring these together, `serving` makes the plan (`result`) of it,
and `report` shows it.

Pure Python. Nothing here imports Ansible, opens a connection or touches a host; only the command line runs a playbook.
"""
