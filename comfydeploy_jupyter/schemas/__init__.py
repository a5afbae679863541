"""Request models, a module for each section of the routes.

They are the one source of the checks and of the description in `openapi`: each field stands with
its type and bounds, what it means, and an example where it has one of its own.
"""

from .base import *
from .cloud import *
from .files import *
from .machines import *
from .runs import *
from .snapshots import *
from .status import *
from .transfers import *
from .tunnel import *
from .workflows import *
