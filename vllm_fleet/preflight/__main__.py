"""`python -m vllm_fleet.preflight`, which is `scripts/preflight`."""

import sys

from vllm_fleet.interrupt import silent_interrupt

with silent_interrupt():
    from vllm_fleet.preflight.cli import main

sys.exit(main())
