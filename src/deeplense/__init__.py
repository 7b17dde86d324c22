"""Machine learning on strong gravitational lenses: simulate → train → evaluate → report → predict.

Each verb is a function that takes its options as keywords, the same as the flags of the command line:

>>> import deeplense
>>> folder = deeplense.simulate(recipe="model_ii", train=500, validation=100, test=200)  # doctest: +SKIP
>>> run = deeplense.train(dataset=str(folder), epochs=5)  # doctest: +SKIP
>>> marks = deeplense.evaluate(run_id=str(run))  # doctest: +SKIP
>>> page = deeplense.report(runs=[str(run)])  # doctest: +SKIP
"""

from deeplense.benchmark import BenchmarkOptions, benchmark
from deeplense.core.errors import DeepLenseError
from deeplense.describe import info, montage
from deeplense.evaluate import EvaluateOptions, evaluate
from deeplense.predict import PredictOptions, predict
from deeplense.report import ReportOptions, report
from deeplense.simulate import SimulateOptions, simulate
from deeplense.train import TrainOptions, train
from deeplense.version import __version__

__all__ = [
    "BenchmarkOptions",
    "DeepLenseError",
    "EvaluateOptions",
    "PredictOptions",
    "ReportOptions",
    "SimulateOptions",
    "TrainOptions",
    "__version__",
    "benchmark",
    "evaluate",
    "info",
    "montage",
    "predict",
    "report",
    "simulate",
    "train",
]
