"""`python -m vllm_fleet.plan`, which is `scripts/plan`."""

import sys

from vllm_fleet.interrupt import silent_interrupt

with silent_interrupt():
    from vllm_fleet.plan.cli import main

sys.exit(main())
