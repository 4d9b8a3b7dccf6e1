"""`python -m vllm_fleet.run`, which is `scripts/deploy`."""

import sys

from vllm_fleet.run.cli import main

sys.exit(main())
