"""`python -m tests.hosts FILE DIRECTORY` lays the host that FILE describes out below an empty directory."""

import sys
from pathlib import Path

from tests import hosts

hosts.build(hosts.read(Path(sys.argv[1])), Path(sys.argv[2]))
