"""The catalogue of networks, and classifiers built from them."""

from recipes.bases.blocks import Block
from recipes.bases.building import Network, build_network, network_for
from recipes.bases.catalogue import Base, find_base, list_bases
from recipes.bases.cutting import block_outputs, cut_tensor, multiply_adds, split_at
from recipes.bases.folding import folded
from recipes.bases.heads import HEADS, add_head, check_head, head_names
from recipes.bases.sources import check_base, default_image_size, least_image_size

__all__ = [
    "HEADS",
    "Base",
    "Block",
    "Network",
    "add_head",
    "block_outputs",
    "build_network",
    "check_base",
    "check_head",
    "cut_tensor",
    "default_image_size",
    "find_base",
    "folded",
    "head_names",
    "least_image_size",
    "list_bases",
    "multiply_adds",
    "network_for",
    "split_at",
]
