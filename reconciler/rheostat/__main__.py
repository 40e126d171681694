"""``python -m rheostat``."""

import sys

from rheostat._cli.commands import main

sys.exit(main())
