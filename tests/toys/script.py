"""What `mitmdump -s tests/toys/script.py -s addon.py` loads first: a kind and a dialect that are new to the package.

It must come first where a configuration names them.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from gateway_addon import api, dialects
from tests.toys import dialogue, pence

api.KINDS[dialogue.NAME] = dialogue
dialects.DIALECTS[pence.NAME] = pence

addons: list[object] = []
