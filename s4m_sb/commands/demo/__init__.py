"""``s4m demo``, the command and its page.

`command.py` starts `server.py`, which serves `page.py`, which has `job.py`
separate each recording.
"""

from s4m_sb.commands.demo.command import (
    DESCRIPTION,
    EXAMPLES,
    add_arguments,
    run,
)

__all__ = ["DESCRIPTION", "EXAMPLES", "add_arguments", "run"]
