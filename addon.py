"""What `mitmdump -s addon.py` loads; `gateway_addon/script/addon.py` is the same for an installed package.

The addon lives in the package, one for the process: mitmproxy loads this file anew whenever it is touched, and calls
in flight, the writer and the totals must outlive that.
"""

from gateway_addon.proxy.hooks import ADDON
from gateway_addon.proxy.reload import handed_over

addons = handed_over(ADDON)
