"""`python -m vllm_fleet.lab`, which is `scripts/lab`."""

import sys

from vllm_fleet.lab.cli import main

sys.exit(main())
