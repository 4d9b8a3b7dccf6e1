"""`python -m vllm_fleet.lab`, which is `scripts/lab`."""

import sys

from vllm_fleet.interrupt import silent_interrupt

with silent_interrupt():
    from vllm_fleet.lab.cli import main

sys.exit(main())
