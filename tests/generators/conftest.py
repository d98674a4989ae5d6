"""What generators are shown lies beside the tests, where the laws find it too."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
