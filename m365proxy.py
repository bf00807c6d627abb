#!/usr/bin/env python3
"""Starts m365proxy from a checkout: python3 m365proxy.py --config /etc/m365proxy.json"""

import os
import sys

if not os.path.isfile(os.path.join(os.path.dirname(os.path.abspath(__file__)), "m365proxy", "cli.py")):
    print(
        "m365proxy.py: the m365proxy directory is not beside this file; for a single file to copy, run "
        "`python3 setup.py single_file` in a checkout and take dist/m365proxy.py.",
        file=sys.stderr,
    )
    sys.exit(69)

if __name__ == "__main__":
    # This file and the package have one name: look the package up as such.
    sys.modules.pop("m365proxy", None)
    from m365proxy.cli import main

    sys.exit(main())
