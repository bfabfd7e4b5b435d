"""Find the faces that matter: core-set selection and low-bit fine-tuning for face-recognition data sets.

The stages are packages of their own, imported when needed: facecore.embed, select, quantize, verify, train, synthesis.
"""

from facecore.errors import DataError, FacecoreError, ModelError, OptionError

__all__ = ["DataError", "FacecoreError", "ModelError", "OptionError"]
