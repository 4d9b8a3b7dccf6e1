"""`python -m vllm_fleet.dify`, which is `scripts/dify`."""

import sys

from vllm_fleet.interrupt import silent_interrupt

with silent_interrupt():
    from vllm_fleet.dify.cli import main

sys.exit(main())
