"""Networks that see images: four that were pre-trained and stay frozen, and the small one that learns weights.

Of the frozen ones the pooled features before the last layer are computed once and kept in the user cache. ``tflite``
are four ImageNet networks as 8-bit TensorFlow Lite files, which ``ai-edge-litert`` reads. They stand in for the paper's
four, ``torchvision``, which are larger and need torchvision and its weights.
"""

from __future__ import annotations

import warnings
from functools import cache, partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from localma.checks import choose
from localma.datasets.find import Source, find
from localma.replication.lab.cache import cached

#: Networks of the four companies, in the paper's order, the largest first, and the files or models that hold them.
TFLITE = {
    "MobileNetV2 1.0": "tf2_mobilenet_v2_1.0_224_ptq",
    "MobileNetV1 0.75": "mobilenet_v1_0.75_192_quant",
    "MobileNetV1 0.5": "mobilenet_v1_0.5_160_quant",
    "MobileNetV1 0.25": "mobilenet_v1_0.25_128_quant",
}
CHECKSUMS = {
    "MobileNetV2 1.0": "5d3137241276e79c86d14a74fe43581398ae0e815191d3dba45495b810840e8c",
    "MobileNetV1 0.75": "41daeb22fdcf947e0e5ec32373aa9df7c31f3ef45dbd0ef7b5940fbce3c20f6a",
    "MobileNetV1 0.5": "3cc6d2ca460abd2e0f699a6d0d2550c6b61c6e3b0e27a3616e384ea74cb86f43",
    "MobileNetV1 0.25": "cb273c23ee76374b05b9583177e28aa19744858a7679c56a250e83d0333da785",
}
TORCHVISION = {
    "ResNet18": "resnet18",
    "DenseNet121": "densenet121",
    "GoogLeNet": "googlenet",
    "EfficientNetB0": "efficientnet_b0",
}
FAMILIES = {"tflite": tuple(TFLITE), "torchvision": tuple(TORCHVISION)}
PART = 1000  # images computed between two saves


def _source(name: str) -> Source:
    advice = (
        "The file is in the repository google-coral/test_data on GitHub; put it into a folder imagenet_tflite there."
    )
    return Source(f"imagenet_tflite/{TFLITE[name]}.tflite", checksum=f"sha256:{CHECKSUMS[name]}", advice=advice)


def available(family: str) -> str:
    """Empty if the networks of a family can be used here, else what is missing and where to get it; nothing is
    downloaded.
    """
    choose("family", family, FAMILIES)
    if family == "tflite":
        try:
            import ai_edge_litert.interpreter  # noqa: F401

            for name in TFLITE:
                find(_source(name))
        except ImportError:
            return "ai-edge-litert is not installed: pip install 'localma[models]'"
        except (FileNotFoundError, ValueError) as error:
            return str(error)
        return ""
    try:
        from torchvision.models import get_model_weights
    except ImportError:
        return "torchvision is not installed: pip install torchvision, of the build of your torch"
    except RuntimeError as error:  # its compiled part is looked for on import
        return f"torchvision does not go with this torch ({error}): install the two together, of one build"
    folder = Path(torch.hub.get_dir()) / "checkpoints"
    address = {name: get_model_weights(model).DEFAULT.url for name, model in TORCHVISION.items()}
    missing = [name for name, url in address.items() if not (folder / Path(url).name).exists()]
    if not missing:
        return ""
    from_where = " ".join(address[name] for name in missing)
    return f"the weights of {', '.join(missing)} are not in {folder}; download into that folder: {from_where}"


def choose_family() -> str:
    """The paper's four networks if torchvision and their weights are here, else the stand-ins; FileNotFoundError, which
    says what each family lacks, if neither.
    """
    lacking = {family: available(family) for family in ("torchvision", "tflite")}
    for family, what in lacking.items():
        if not what:
            return family
    raise FileNotFoundError("no pre-trained networks: " + "; ".join(map(": ".join, lacking.items())))


def _tflite(name: str):
    from ai_edge_litert.interpreter import Interpreter
    from PIL import Image

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it warns of the memory that the tensors take: a few MB
        network = Interpreter(str(find(_source(name))), experimental_preserve_all_tensors=True, num_threads=1)
    network.allocate_tensors()
    enter = network.get_input_details()[0]
    size = tuple(enter["shape"][1:3])  # of the picture that it takes, in pixels
    # the only tensors of shape (1, d) or (1, 1, 1, d) that come out of an average over the picture
    pools = [
        d
        for d in network.get_tensor_details()
        if ("AvgPool" in d["name"] or "GlobalPool/Mean" in d["name"]) and d["shape"].size in (2, 4)
    ]
    pool = max(pools, key=lambda d: (int(np.prod(d["shape"])), d["index"]))
    scale, zero = pool["quantization"]

    def embed(images: np.ndarray) -> np.ndarray:
        rows = []
        for image in images:
            big = np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BILINEAR))
            network.set_tensor(enter["index"], big[None])
            network.invoke()
            rows.append(network.get_tensor(pool["index"]).reshape(-1).astype(np.float32))
        return (np.stack(rows) - zero) * scale

    return embed


def _torchvision(name: str, *, pretrained: bool = True):
    """With ``pretrained=False`` random weights: for a test of the plumbing."""
    from torchvision.models import get_model, get_model_weights
    from torchvision.transforms.functional import resize

    extra = {"init_weights": False} if name == "GoogLeNet" and not pretrained else {}
    weights = get_model_weights(TORCHVISION[name]).DEFAULT if pretrained else None
    network = get_model(TORCHVISION[name], weights=weights, **extra).eval()
    head = "fc" if hasattr(network, "fc") else "classifier"
    setattr(network, head, torch.nn.Identity())
    mean, sd = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1), torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)

    @torch.no_grad()
    def embed(images: np.ndarray) -> np.ndarray:
        x = torch.as_tensor(images).permute(0, 3, 1, 2).float() / 255
        parts = (resize(part, [224, 224], antialias=True) for part in x.split(50))
        return torch.cat([network((part - mean) / sd) for part in parts]).numpy()

    return embed


def features(name: str, images: np.ndarray) -> np.ndarray:
    """Pooled features of images (n, 32, 32, 3) by a network of :data:`FAMILIES`, (n, d) in half precision; kept in the
    user cache in parts, so that an interrupted computation goes on where it stopped.
    """
    network = CHECKSUMS[name] if name in TFLITE else f"torchvision {TORCHVISION[name]} IMAGENET1K_V1"
    load = cache(_tflite if name in TFLITE else _torchvision)  # when it is wanted

    def embed(rows):
        return load(name)(rows).astype(np.float16)

    starts = tqdm(range(0, len(images), PART), desc=name, unit="part", delay=2, leave=False)
    parts = (images[start : start + PART] for start in starts)
    return np.concatenate([cached("features", partial(embed, rows), network, "bilinear", rows) for rows in parts])


class Augment(nn.Module):
    """The paper's augmentation while training, nothing otherwise; images (n, 32, 32, 3) with values 0 to 255 become (n,
    3, 32, 32) with values about -1 to 1.

    Horizontal flip with probability one half, rotation within ``degrees``, brightness and contrast factors within 1 +-
    ``jitter``, each image on its own.
    """

    def __init__(self, degrees: float = 15.0, jitter: float = 0.2):
        super().__init__()
        self.degrees, self.jitter = degrees, jitter

    def forward(self, x: Tensor) -> Tensor:
        x = x.permute(0, 3, 1, 2) / 255  # of memory format channels_last, which is what small convolutions like
        if self.training:
            n = len(x)
            angle = (2 * torch.rand(n, device=x.device) - 1) * (self.degrees * torch.pi / 180)
            flip = torch.where(torch.rand(n, device=x.device) < 0.5, -1.0, 1.0)
            cos, sin, zero = angle.cos(), angle.sin(), torch.zeros_like(angle)
            turn = torch.stack([torch.stack([flip * cos, -flip * sin, zero], 1), torch.stack([sin, cos, zero], 1)], 1)
            grid = nn.functional.affine_grid(turn, list(x.shape), align_corners=False)
            x = nn.functional.grid_sample(x, grid, padding_mode="border", align_corners=False)
            brightness, contrast = (1 + self.jitter * (2 * torch.rand(2, n, 1, 1, 1, device=x.device) - 1)).unbind(0)
            x = (x * brightness).clamp(0, 1)
            mean = x.mean((1, 2, 3), keepdim=True)
            x = (mean + contrast * (x - mean)).clamp(0, 1)
        return (4 * x - 2).contiguous(memory_format=torch.channels_last)


def weight_network(outputs: int, channels: tuple[int, ...] = (16, 32, 64)) -> nn.Sequential:
    """A small convolutional network: images to ``outputs`` logits.

    Three convolutions that halve the picture, each with batch normalisation, the mean over what is left of it, and a
    linear layer: 24,000 parameters and 0.9 million products an image.
    """
    layers: list[nn.Module] = [Augment()]
    for before, after, side in zip((3, *channels), channels, (5, 3, 3), strict=False):
        layers += [
            nn.Conv2d(before, after, side, stride=2, padding=side // 2, bias=False),
            nn.BatchNorm2d(after),
            nn.ReLU(inplace=True),
        ]
    body = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels[-1], outputs))
    return body.to(memory_format=torch.channels_last)
