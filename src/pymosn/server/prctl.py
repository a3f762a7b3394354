"""prctl(2): attributes of this process."""

import ctypes
from typing import Final

# From linux/prctl.h.
SET_PDEATHSIG: Final = 1
CAPBSET_DROP: Final = 24
SET_CHILD_SUBREAPER: Final = 36
SET_NO_NEW_PRIVS: Final = 38
CAP_AMBIENT: Final = 47
CAP_AMBIENT_CLEAR_ALL: Final = 4


def prctl(option: int, value: int) -> bool:
    """Calls prctl with the other arguments 0; False if it failed, and then `ctypes.get_errno()` has the reason."""
    done: int = ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0)
    return done == 0
