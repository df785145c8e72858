from p2pfl.child_node import ChildNode as ChildNode
from p2pfl.child_node import node as node
from p2pfl.learning.exported import LoadedModel as LoadedModel
from p2pfl.learning.exported import Prediction as Prediction
from p2pfl.learning.exported import load as load
from p2pfl.learning.rounds import TrainingRound as TrainingRound
from p2pfl.learning.rounds import rounds as rounds
from p2pfl.learning.user_task import Agreed as Agreed
from p2pfl.learning.user_task import Task as Task

__version__: str
__all__: list[str]
