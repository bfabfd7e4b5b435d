"""The proxy: a network trained by margin softmax on a small data set, where there is no other to embed with."""

from facecore.train.folder import check_out
from facecore.train.options import TrainOptions
from facecore.train.run import Measure, train
from facecore.train.world import is_first

__all__ = ["Measure", "TrainOptions", "check_out", "is_first", "train"]
