"""`python -m tbot`: the same as the `tbot` command."""

import sys

from tbot.cli import main

sys.exit(main())
