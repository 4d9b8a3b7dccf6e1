"""Hosts that this machine makes for itself: systemd-nspawn containers with an init, an sshd and an address of their own."""
