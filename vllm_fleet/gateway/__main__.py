"""`python -m vllm_fleet.gateway`, which is `scripts/gateway-keys`."""

import sys

from vllm_fleet.interrupt import silent_interrupt

with silent_interrupt():
    from vllm_fleet.gateway.cli import main

sys.exit(main())
