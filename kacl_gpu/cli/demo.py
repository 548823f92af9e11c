"""``kacl-gpu demo``: the main job on synthetic radiographs: draw them, train KACL on them, see what it has learnt."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .parser import Parser

DESCRIPTION = """\
Draw synthetic chest radiographs, train KACL on them for some minutes (seconds on a GPU), print the AUC of each finding
and how well Grad-CAM finds it, and draw a picture.
"""

EXAMPLES = """\
  kacl-gpu demo
  kacl-gpu demo --out /tmp/demo --device cpu
"""

SHOWN = 8  # images in the picture
SETTINGS = {"data.size": "128"}  # beside the shipped configuration
IMAGES, BOXED = 1600, 0.15  # four fifths of the images with boxes are for the test


def make_parser() -> Parser:
    """Return the parser of this command."""
    parser = Parser("demo", DESCRIPTION, examples=EXAMPLES)
    parser.add_argument("--out", metavar="FOLDER", default="demo_output", help="folder to write")
    parser.add_argument("--device", metavar="NAME", help="cpu, cuda or cuda:N (default: cuda where there is a GPU)")
    return parser


def run(argv: Sequence[str]) -> int:
    """Run the demo; return the exit status."""
    arguments = make_parser().parse_args(list(argv))
    demo(Path(arguments.out), device=arguments.device)
    return 0


def demo(out: Path, device: str | None = None) -> None:
    """Draw phantoms, train on them, print the AUC of each finding and the accuracy of boxes, and draw a picture.

    Args:
        out: folder for phantoms/, run/ (see `kacl_gpu.kacl.training.fit`) and demo.png; an earlier demo there is
            replaced.
        device: ``cpu``, ``cuda`` or ``cuda:N``; None: CUDA if there is any.

    Raises:
        InputError: the folder holds something else, or the device is not there.
    """
    from kacl_gpu.devices import choose_device
    from kacl_gpu.errors import InputError
    from kacl_gpu.kacl.data.phantom import make_phantoms
    from kacl_gpu.kacl.training.fit import fit

    phantoms, run, picture = out / "phantoms", out / "run", out / "demo.png"
    others = [path.name for path in (out.iterdir() if out.is_dir() else ()) if path not in (phantoms, run, picture)]
    if others:
        raise InputError(f"{out} holds what no demo wrote: {', '.join(sorted(others))}")
    chosen = choose_device(device)
    for folder in (phantoms, run):
        shutil.rmtree(folder, ignore_errors=True)
    print(f"drawing {IMAGES} radiographs in {phantoms}", flush=True)
    made = make_phantoms(phantoms, images=IMAGES, size=int(SETTINGS["data.size"]), boxed=BOXED)
    print(f"{made.images} images of {made.patients} patients, {made.boxes} boxes, {made.seconds:.0f} s", flush=True)

    # one device: with several, Lightning would run this command once more for each
    devices = {"cpu": "1", "cuda": f"[{chosen.index or 0}]"}[chosen.type]
    arguments = [f"--trainer.accelerator={chosen.type}", f"--trainer.devices={devices}"]
    arguments += [
        "--config=phantom",
        f"--data.root={phantoms}",
        f"--out={run}",
        *(f"--{name}={value}" for name, value in SETTINGS.items()),
    ]
    print(f"kacl-gpu fit {' '.join(arguments)}", flush=True)
    trained = fit(arguments)
    report(trained, run / "checkpoints" / "last.ckpt", picture)


def report(trained: Any, checkpoint: Path, picture: Path) -> None:
    """Print the results of a checkpoint on the test images, and draw some of them."""
    from kacl_gpu.kacl.boxes import has_box
    from kacl_gpu.kacl.data.diseases import DISEASES
    from kacl_gpu.kacl.evaluation.validation import IOU_THRESHOLDS
    from kacl_gpu.kacl.training.fit import draw

    (measures,) = trained.trainer.test(trained.model, trained.datamodule, ckpt_path=str(checkpoint), verbose=False)
    found = trained.model.predictions
    print(f"\n{len(found['labels'])} test images          AUC   positives")
    for name, positives in zip(DISEASES, found["labels"].sum(0).int().tolist()):
        auc = measures.get(f"test/auc_{name}")
        print(f"  {name:<22} {'    -' if auc is None else f'{auc:.3f}'}   {positives:9}")
    print(f"  {'mean':<22} {measures['test/auc']:.3f}")
    annotated = has_box(found["true_boxes"])
    print(f"{int(annotated.sum())} boxes; accuracy of localisation by the overlap (IoU) that counts as right:")
    print("  ".join(f"{t}: {measures[f'test/localisation_{t}']:.2f}" for t in IOU_THRESHOLDS))

    test = trained.datamodule.test
    samples = [test[row] for row in found["index"][annotated.any(1)][:SHOWN].tolist()]
    draw(trained.model, samples, "test images").savefig(picture, dpi=110)
    print(f"picture: {picture}")
