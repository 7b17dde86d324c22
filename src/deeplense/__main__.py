"""`python -m deeplense`, and what `torchrun -m deeplense train …` starts."""

import sys

from deeplense.cli import main

sys.exit(main())
