"""`python -m glp_core <command>`: collect, train, measure, rebuild; each says with --help what it does."""

import sys
from collections.abc import Sequence

from glp_core.cli.commands import parse
from glp_core.errors import GlpError
from glp_core.memory import keep_freed_memory
from glp_core.threads import give_way


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command and return its exit status: 0, 1 for bad input, 130 when stopped."""
    module, args = parse(sys.argv[1:] if argv is None else argv)
    try:
        return module.run(args) or 0
    except GlpError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    except KeyboardInterrupt:
        sys.stderr.write("\nStopped.\n")
        return 130


if __name__ == "__main__":
    give_way()
    keep_freed_memory()
    sys.exit(main())
