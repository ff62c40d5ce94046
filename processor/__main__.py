"""`python -m processor`: run the processor with the settings of the environment."""

from __future__ import annotations

import os
import sys

import uvloop

from pipeline import service
from processor.app import main

if __name__ == "__main__":
    # No orderly end of the loop: after a failure Faust's tasks and its consumer thread may linger, and must not
    # keep alive a process that has given up. What matters was committed, or will be redelivered.
    loop = uvloop.new_event_loop()
    code = service.exit_code("processor", lambda settings: loop.run_until_complete(main(settings)))
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
