"""The list of comparisons lies beside the tests, where ``bench/parity.py`` finds it too."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
