from pathlib import Path

from harness.api import Row as Row
from harness.api import evaluate as evaluate
from harness.api import load as load
from harness.api import run as run
from harness.api import search as search

ROOT: Path
