"""Experiments: whole runs from a configuration. Needs the extra ``rankwell[cli]``."""

from rankwell.experiments.folder import RunFolder, SavedRun
from rankwell.experiments.run import Reporter, Result, run

__all__ = ["Reporter", "Result", "RunFolder", "SavedRun", "run"]
