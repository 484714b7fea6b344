"""`mnist-lit train ...` and so on: what `python -m mnist_lit.train ...` and so on do."""

import gc
import importlib
import sys

from mnist_lit import __version__

VERBS = {
    "train": "train on MNIST, or validate, test and predict with a checkpoint",
    "predict": "classify the digits in image files",
    "export": "write the weights as ONNX, torch.export or a file of weights",
    "demo": "draw digits in the browser",
    "sheet": "print a form to write digits in, and cut up a photo of it",
}


def main() -> None:
    verb, *arguments = sys.argv[1:] or ["--help"]
    if verb in VERBS:
        # Only now, because each of them imports what it alone needs. sys.argv stays as it is: the
        # processes of a distributed training are started with it.
        gc.disable()  # what an import makes is no garbage: not to search it saves a second,
        module = importlib.import_module(f"mnist_lit.{verb}")
        gc.freeze()  # and another when the process ends
        gc.enable()
        module.main(arguments)
        return
    usage = f"usage: mnist-lit {'|'.join(VERBS)} ..."
    if verb in ("-h", "--help"):
        lines = [f"  {name:9}{does}" for name, does in VERBS.items()]
        print(usage, "", *lines, "", "`mnist-lit train --help` and so on say more.", sep="\n")
    elif verb == "--version":
        print(f"mnist_lit {__version__}")
    else:
        print(f"{usage}\nerror: {verb!r} is none of these", file=sys.stderr)
        raise SystemExit(2)


if __name__ == "__main__":
    main()
