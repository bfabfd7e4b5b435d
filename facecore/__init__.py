"""Find the faces that matter: core-set selection and low-bit fine-tuning for face-recognition data sets."""
