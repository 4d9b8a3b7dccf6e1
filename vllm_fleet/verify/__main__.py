"""`python -m vllm_fleet.verify`, which is `scripts/verify`."""

import sys

from vllm_fleet.interrupt import silent_interrupt

with silent_interrupt():
    from vllm_fleet.verify.cli import main

sys.exit(main())
