"""`python -m epomdp`."""

import sys

from epomdp.cli import main

if __name__ == "__main__":
    sys.exit(main())
