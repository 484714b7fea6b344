"""A 17,506-parameter CNN that reads handwritten digits, trained with PyTorch Lightning."""

__version__ = "0.1.0"
