"""The parser of ``kacl-gpu fit``: shipped configurations by name, a short help in groups, errors in one line."""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import Any, NoReturn

from jsonargparse import ActionConfigFile, DefaultHelpFormatter
from lightning.pytorch.cli import LightningArgumentParser

from kacl_gpu.errors import plain_words

CONFIGS = Path(__file__).parents[2] / "configs"

DESCRIPTION = """\
Train KACL on a data set in the layout of NIH ChestX-ray14, as it was downloaded or as kacl-gpu prepare made it. OUT
receives the settings (config.yaml), checkpoints/last.ckpt and checkpoints/best.ckpt, a row of figures for each epoch
(metrics.csv, drawn in curves.png), TensorBoard's files, and pictures of heatmaps and boxes (panels/).
"""

EXAMPLES = """\
Settings are read from left to right; the last one wins. Shipped configurations: {names}.
All settings of Lightning's Trainer are there as --trainer.NAME: kacl-gpu fit --help_all lists them.

examples:
  kacl-gpu fit --config nih --data.root ChestXray14 --out runs/nih
  kacl-gpu fit --config nih --config base --data.root nih224 --out runs/base --model.learning_rate 0.0003
  kacl-gpu fit --config my.yaml --data.root phantoms --out runs/mine --trainer.max_epochs 5 --resume
  torchrun --nproc-per-node=4 -m kacl_gpu fit --config nih --data.root nih224 --data.batch_size 16
"""

# Settings in the short help; those of model and data that are not named here follow in a group of their own
GROUPS = {
    "run": ["help", "help_all", "config", "print_config", "out", "resume", "seed_everything", "panels_every"],
    "data": [
        "data.root", "data.size", "data.diseases", "data.normal", "data.split_file", "data.augment", "data.batch_size",
        "data.workers",
    ],
    "data of your own": [
        "data.format", "data.table", "data.boxes", "data.findings", "data.missing", "data.max_value",
    ],
    "network": [
        "model.encoder", "model.weights", "model.stride", "model.last_layer", "model.last_frozen", "model.hidden",
        "model.projection",
    ],
    "classification loss": ["model.loss", "model.alpha", "model.gamma", "model.bias"],
    "contrastive loss (BYOP)": [
        "model.byop", "model.contrastive_weight", "model.temperature", "model.hard_negatives", "model.contrastive",
        "model.attend", "model.body_parts",
    ],
    "boxes": ["model.threshold", "model.shrink_whole_image"],
    "controls of BYOP": ["model.positive_boxes", "model.positive_features"],
    "schedule": [
        "trainer.max_epochs", "model.learning_rate", "model.warmup_epochs", "model.schedule", "model.decay",
        "model.decay_epochs", "model.weight_decay", "model.ema", "model.patience",
    ],
    "hardware": [
        "trainer.accelerator", "trainer.devices", "trainer.num_nodes", "trainer.precision", "trainer.benchmark",
        "model.channels_last", "model.compile",
    ],
}  # fmt: skip


def shipped_configs() -> dict[str, Path]:
    """Return the configurations in the package: name -> file.

    Example:
        >>> sorted(shipped_configs())
        ['base', 'byop', 'byop_annotated', 'byop_constant', 'byop_middle', 'byop_random', 'byop_shuffled',
         'byop_symmetric', 'byop_symmetric_constant', 'byop_symmetric_shuffled', 'byop_whole', 'chexnet', 'focal',
         'full', 'full_shuffled', 'nih', 'nih_literal', 'nih_mini', 'phantom']
    """
    return {path.stem: path for path in sorted(CONFIGS.rglob("*.yaml"))}


def find_config(name: str) -> str:
    """Return the file of a shipped configuration, or the name itself where a file has it or none is shipped under it.

    Example:
        >>> Path(find_config("nih")).name
        'nih.yaml'
        >>> find_config("mine.yaml")
        'mine.yaml'
    """
    shipped = shipped_configs()
    return str(shipped[name]) if name in shipped and not Path(name).is_file() else name


class NamedConfig(ActionConfigFile):
    """Read a configuration from a file, or by the name of a shipped one."""

    def __call__(self, parser: Any, cfg: Any, values: Any, option_string: str | None = None) -> None:
        file = find_config(values)
        # jsonargparse takes other words for YAML and says little about them
        if not Path(file).is_file() and not any(mark in file for mark in ":{\n"):
            raise argparse.ArgumentError(
                self, f"no such file: {file}; shipped configurations: {', '.join(shipped_configs())}"
            )
        self.apply_config(parser, cfg, self.dest, file)


class HelpFormatter(argparse.RawDescriptionHelpFormatter, DefaultHelpFormatter):
    """Keep the lines of description and examples."""

    def _get_help_string(self, action: argparse.Action) -> str:
        """Return the help without the type where the choices stand beside the name."""
        text = super()._get_help_string(action)
        return text.replace("type: %(type)s, ", "") if str(action.metavar).startswith("{") else text


class FitParser(LightningArgumentParser):
    """Lightning's parser with a short help; ``--help_all`` prints the long one."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs |= {
            "prog": "kacl-gpu fit",
            "usage": "kacl-gpu fit [--config NAME] --data.root FOLDER [--out FOLDER] [--SETTING VALUE ...]",
            "description": DESCRIPTION,
            "epilog": EXAMPLES.format(names=", ".join(shipped_configs())),
            "formatter_class": HelpFormatter,
            "allow_abbrev": False,
        }
        self.everything = False  # to be shown in the help
        super().__init__(*args, **kwargs)
        self.add_argument("--help_all", action=_HelpAll, help="Show all settings, Lightning's too, and exit.")

    def format_help(self, *args: Any) -> str:
        """Return the help: settings in `GROUPS`, or everything in Lightning's order."""
        if self.everything:
            return super().format_help(*args)
        actions = {action.dest: action for action in self._actions if action.help != argparse.SUPPRESS}
        settable = [name for name, action in actions.items() if action.option_strings[0].startswith("--")]  # no links
        settings = [name for name in settable if name.startswith(("model.", "data.")) and not name.endswith(".help")]
        listed = {name for names in GROUPS.values() for name in names}
        groups = GROUPS | {"other settings of model and data": [name for name in settings if name not in listed]}
        before = self._action_groups
        self._action_groups = []
        try:
            for title, names in groups.items():
                group = self.add_argument_group(title)
                group._group_actions = [actions[name] for name in names if name in actions]
            return super().format_help(*args)
        finally:
            self._action_groups = before

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """End with status 2 and the message in one line."""
        line = re.sub(r"required: (?=\w)", "required: --", plain_words(message))
        self.exit(2, f"kacl-gpu fit: error: {line} (see kacl-gpu fit --help)\n")


class _HelpAll(argparse.Action):
    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs | {"nargs": 0, "dest": "help_all", "default": argparse.SUPPRESS})

    def __call__(self, parser: Any, *_: Any) -> None:
        parser.everything = True
        parser.print_help()
        parser.exit()
