"""`python -m vllm_fleet.verify`, which is `scripts/verify`."""

import sys

from vllm_fleet.verify.cli import main

sys.exit(main())
