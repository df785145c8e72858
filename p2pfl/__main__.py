"""`python -m p2pfl`: the command line without its script, as `p2pfl demo` starts its nodes."""

from p2pfl.cli import main

main()
