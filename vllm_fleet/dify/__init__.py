"""What to enter in Dify, and entering it: from a gateway's plan, without Ansible."""
