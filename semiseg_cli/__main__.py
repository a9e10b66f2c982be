"""`python -m semiseg_cli`, which is how torchrun starts the processes of `--gpus`."""

import sys

from semiseg_cli.cli import main

if __name__ == "__main__":
    sys.exit(main())
