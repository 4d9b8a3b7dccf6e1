"""`python -m vllm_fleet.run`, which is `scripts/deploy`."""

import sys

from vllm_fleet.interrupt import silent_interrupt

with silent_interrupt():
    from vllm_fleet.run.cli import main

sys.exit(main())
