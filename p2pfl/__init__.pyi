from p2pfl import events as events
from p2pfl.child_node import ChildNode as ChildNode
from p2pfl.child_node import node as node
from p2pfl.errors import CredentialsError as CredentialsError
from p2pfl.errors import DataDirectoryError as DataDirectoryError
from p2pfl.errors import NetworkError as NetworkError
from p2pfl.errors import P2pflError as P2pflError
from p2pfl.errors import TaskError as TaskError
from p2pfl.errors import UserError as UserError
from p2pfl.errors import WorkerError as WorkerError
from p2pfl.events import RoundRow as RoundRow
from p2pfl.exit_codes import ExitCode as ExitCode
from p2pfl.experiment.result import SimulationResult as SimulationResult
from p2pfl.experiment.simulate import simulate as simulate
from p2pfl.learning.exports.exported import LoadedModel as LoadedModel
from p2pfl.learning.exports.exported import Prediction as Prediction
from p2pfl.learning.exports.exported import load as load
from p2pfl.learning.own.interface import Agreed as Agreed
from p2pfl.learning.own.interface import Task as Task
from p2pfl.learning.scripts.rounds import TrainingRound as TrainingRound
from p2pfl.learning.scripts.rounds import rounds as rounds
from p2pfl.learning.simulation.simulated import SimulatedRound as SimulatedRound
from p2pfl.learning.strategies.elementwise import Elementwise as Elementwise
from p2pfl.learning.strategies.elementwise import UpdatePieces as UpdatePieces
from p2pfl.learning.strategies.elementwise import UpdateTable as UpdateTable
from p2pfl.library.certificates import Certificates as Certificates
from p2pfl.library.certificates import issue as issue
from p2pfl.library.history import RoundHistory as RoundHistory
from p2pfl.library.history import frame as frame
from p2pfl.library.history import history as history
from p2pfl.library.node import Node as Node

__version__: str
__all__: list[str]
