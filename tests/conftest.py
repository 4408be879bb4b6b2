"""What must be set before a test module is imported: Prefect reads its settings when it is, long before any fixture runs."""

from __future__ import annotations

import os

from flows.machine.environment import OFFLINE_AND_QUIET

# As in the product: the embedded server needs more than Prefect's 20 s where two workers share two cores with anything else.
_PATIENCE = "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS"
os.environ.setdefault(_PATIENCE, OFFLINE_AND_QUIET[_PATIENCE])
