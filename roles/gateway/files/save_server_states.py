"""Keep which servers are drained, or known to be down, over a reload: HAProxy reads this file when it starts anew."""

import os
import socket
import sys

with socket.socket(socket.AF_UNIX) as admin:
    admin.settimeout(10)
    admin.connect(sys.argv[1])
    admin.sendall(b"show servers state\n")
    states = b"".join(iter(lambda: admin.recv(65536), b""))
temporary = f"{sys.argv[2]}.new"
with open(temporary, "wb") as file:  # noqa: PTH123 - what a host's Python reads fastest
    file.write(states)
os.replace(temporary, sys.argv[2])  # noqa: PTH105
