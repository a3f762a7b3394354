"""`python -m pymosn` is the `pymosn` command."""

from pymosn.cli import main

main()
