"""Hosts that this machine makes for itself: systemd-nspawn containers with init, sshd and address of their own."""
