"""`python -m headworks` is `headworks`."""

from headworks.cli import main

main()
