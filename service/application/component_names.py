"""Names of the registered components of the engine, for API schemas that list them."""

from typing import Final

from core.activations import ACTIVATIONS
from core.datasets import BUILTINS
from core.initializers import INITIALIZERS
from core.losses import LOSSES
from core.optimizers import OPTIMIZERS
from core.schedules import SCHEDULES

ACTIVATION_NAMES: Final = tuple(ACTIVATIONS)
BUILTIN_NAMES: Final = tuple(BUILTINS)
INITIALIZER_NAMES: Final = tuple(INITIALIZERS)
LOSS_NAMES: Final = tuple(LOSSES)
OPTIMIZER_NAMES: Final = tuple(OPTIMIZERS)
SCHEDULE_NAMES: Final = tuple(SCHEDULES)
