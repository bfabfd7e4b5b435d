"""The proxy: a small network trained on a small data set, where there is no other to embed with."""

from facecore.train.proxy import TrainOptions, train_proxy
from facecore.train.run import Training, train
from facecore.train.tiny import TinyFaceNet

__all__ = ["TinyFaceNet", "TrainOptions", "Training", "train", "train_proxy"]
