"""Methods of semi-supervised segmentation, one file per paper; importing the package registers every file in it."""

from semiseg.system.discovery import modules_of

modules_of(__name__, without=("base", "ideas", "pretraining"))
