"""The catalogue of networks, and classifiers built from them."""

from recipes.bases.blocks import Block
from recipes.bases.building import Network, build_network
from recipes.bases.catalogue import Base, find_base, list_bases
from recipes.bases.cutting import cut_tensor, multiply_adds, split_at
from recipes.bases.folding import folded
from recipes.bases.sources import check_base, default_image_size, least_image_size

__all__ = [
    "Base",
    "Block",
    "Network",
    "build_network",
    "check_base",
    "cut_tensor",
    "default_image_size",
    "find_base",
    "folded",
    "least_image_size",
    "list_bases",
    "multiply_adds",
    "split_at",
]
