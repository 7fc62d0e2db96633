"""What mitmproxy saves with `-w` is for its owner only: the clients' keys are in it."""

import logging
import os
import stat

from mitmproxy.addonmanager import AddonManager

logger = logging.getLogger(__name__)

OTHERS = 0o077
"""What nobody but the owner may do."""


def make_private(addons: AddonManager) -> None:
    """Close the capture that is open, if there is one, to other users, and so all files this process makes from now on.

    Both are needed: mitmproxy opens the first file before it loads any script, and later ones when it likes. What is
    no regular file (`-w /dev/stdout`) stays as it is.
    """
    os.umask(os.umask(OTHERS) | OTHERS)
    save = addons.get("save")
    stream = save.stream if save else None
    if stream is None:
        return
    try:
        file = stream.fo.fileno()
        mode = os.fstat(file).st_mode
        if stat.S_ISREG(mode) and mode & OTHERS:
            os.fchmod(file, stat.S_IMODE(mode) & ~OTHERS)
    except OSError as error:
        logger.warning("gateway-addon: other users may read %s: %s", save.current_path, error.strerror)
