"""The command line. Needs the extra ``rankwell[cli]``."""

from rankwell.cli.main import main

__all__ = ["main"]
