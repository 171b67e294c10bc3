"""Makes ``python -m kdna`` the same as ``kdna``."""

from kdna.cli.main import run

run()
