"""Train a network of your own with BYOP; needs the extras train and pretrained."""

from typing import Any

import timm
import torch
from torch import nn

from kacl_gpu.kacl import (
    BYOP,
    FeatureNormaliser,
    Projector,
    RadiomicEncoder,
    check_head_cam,
    contrastive_loss,
    draw_disease,
    focal_loss,
    standardise,
)

torch.manual_seed(0)
device = "cuda" if torch.cuda.is_available() else "cpu"

# In place of your data: grey images from 0 to 255; labels of two diseases of one body part; every third image is normal
images = torch.randint(256, (12, 1, 96, 96), dtype=torch.uint8, device=device)
labels = torch.eye(3, device=device)[torch.arange(12) % 3][:, :2]
normal, body_parts = labels.sum(1) == 0, torch.tensor([0, 0], device=device)

network: Any = timm.create_model("resnet18", num_classes=2, in_chans=1)
classifier: nn.Linear = network.get_classifier()
byop = BYOP()
normaliser = FeatureNormaliser(len(byop.feature_names))
project_image = Projector(classifier.in_features)
project_features = nn.Sequential(RadiomicEncoder(normaliser.out_features), Projector(512))
model = nn.ModuleList([network, normaliser, project_image, project_features]).to(device)

inputs = standardise(images)
network.eval()  # once: BYOP's Grad-CAM is exact for a linear layer on globally average-pooled activations alone
check_head_cam(network.forward_features(inputs), classifier, network(inputs))
network.train()

optimizer = torch.optim.Adam(model.parameters(), lr=0.0003)
for step in range(3):
    activations = network.forward_features(inputs)
    pooled = activations.mean((2, 3))
    disease = draw_disease(labels, torch.arange(12, device=device), epoch=step, seed=0)  # one of each image's; -1: none
    positives = byop(images, activations, classifier.weight, disease)  # or heatmaps=... of your own
    contrast = contrastive_loss(
        project_image(pooled), project_features(normaliser(positives.features)), labels, disease, normal, body_parts,
        temperature=0.5, form="symmetric", valid=positives.valid,
    )  # fmt: skip
    loss = 0.01 * contrast.loss + 0.99 * focal_loss(classifier(pooled), labels)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    print(f"step {step}: loss {loss.item():.4f}, {int(positives.valid.sum())} images with radiomic features")
