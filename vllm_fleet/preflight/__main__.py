"""`python -m vllm_fleet.preflight`, which is `scripts/preflight`."""

import sys

from vllm_fleet.preflight.cli import main

sys.exit(main())
