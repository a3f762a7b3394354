"""`python -m pymosn` is the `pymosn` command."""

from pymosn.cli import run_command

run_command()
