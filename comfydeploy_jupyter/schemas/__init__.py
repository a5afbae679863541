"""Request models, a module for each section of the routes.

The checks and the description in `openapi` both come from these models. Each field has its type,
its bounds, its meaning, and an example if it needs one of its own.
"""

from .base import *
from .cloud import *
from .comfy_api import *
from .deployments import *
from .files import *
from .machines import *
from .runs import *
from .snapshots import *
from .status import *
from .transfers import *
from .tunnel import *
from .workflows import *
