"""What `mitmdump -s "$(gateway-addon addon-path)"` loads, wherever the package is installed.

Word for word what the project's `addon.py` holds, which says why it holds so little. Imports are absolute: to mitmproxy
a script is no part of a package.
"""

from gateway_addon.proxy.hooks import ADDON
from gateway_addon.proxy.reload import handed_over

addons = handed_over(ADDON)
