"""What others have published about small networks on MNIST, each with its source."""

from typing import NamedTuple


class Published(NamedTuple):
    name: str
    parameters: int
    best: float | None  # test accuracy in %, of the epoch that is best on the test set
    last: float  # of the last epoch
    what: str
    url: str | None = None


PUBLISHED = (
    Published("original", 17_506, 99.44, 99.38, "one run of the script this project began as"),
    Published(
        "ERA session 6",
        19_972,
        99.57,
        99.57,
        "one run of 20 epochs",
        "https://github.com/Shilpaj1994/ERA/blob/master/Session6/S6.ipynb",
    ),
    Published(
        "woolly-of-cv",
        4_838,
        99.42,
        99.41,
        "one run of 12 epochs",
        "https://github.com/adilsammar/woolly-of-cv/blob/main/assets/mnist/docs/MNIST.md",
    ),
    Published(
        "MNIST-CNN-99.75",
        326_410,
        None,
        99.641,
        "mean of 1,500 networks after 30 epochs",
        "https://github.com/cdeotte/MNIST-CNN-99.75",
    ),
)
