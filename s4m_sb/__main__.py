"""``python -m s4m_sb`` is the ``s4m`` command."""

import sys

from s4m_sb.commands.main import main

if __name__ == "__main__":
    sys.exit(main())
