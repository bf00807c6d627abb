"""python3 -m m365proxy"""

import sys

from .cli import main

sys.exit(main())
