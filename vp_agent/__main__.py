"""`python -m vp_agent VERB`: the same as `vp-agent VERB`."""

import sys

from vp_agent.cli import main

sys.exit(main())
