"""The proxy: a network trained by margin softmax on a small data set, where there is no other to embed with."""

from facecore.train.networks import NETWORKS, TinyFaceNet
from facecore.train.options import TrainOptions
from facecore.train.run import Measure, train
from facecore.train.world import is_first

__all__ = ["NETWORKS", "Measure", "TinyFaceNet", "TrainOptions", "is_first", "train"]
